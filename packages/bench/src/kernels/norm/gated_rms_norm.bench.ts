import type { Recording, TensorRef } from '@mambalab/kernels';
import { gatedRmsNorm } from '@mambalab/kernels';
import { gatedRmsNorm as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const inputsOf = (rows: number, width: number): Readonly<Record<string, RandomInput>> => ({
  x: { shape: [rows, width], dtype: 'f32' },
  z: { shape: [rows, width], dtype: 'f32' },
  weight: { shape: [width], dtype: 'f32' },
});

const record =
  (groups: number, normBeforeGate = false) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
    gatedRmsNorm(
      recording,
      { x: input(inputs, 'x'), z: input(inputs, 'z'), weight: input(inputs, 'weight') },
      { groups, normBeforeGate },
    );

const normCase = (label: string, rows: number, width: number, groups: number, normBeforeGate = false): KernelCase => ({
  label,
  inputs: inputsOf(rows, width),
  record: record(groups, normBeforeGate),
  flops: 9 * rows * width,
  bytes: 4 * (3 * rows * width + width),
});

export const gatedRmsNormBench: KernelBench = {
  name: 'norm/gated_rms_norm',
  verify: {
    inputs: inputsOf(3, 1536),
    record: record(2),
    expected: (inputs) =>
      reference(
        { x: values(inputs, 'x'), z: values(inputs, 'z'), weight: values(inputs, 'weight') },
        { rows: 3, width: 1536, groups: 2, eps: 1e-5 },
      ),
    rtol: 4e-6,
    atol: 4e-6,
  },
  cases: [
    normCase('130M decode', 1, 1536, 1),
    normCase('2.7B decode', 1, 5120, 1),
    normCase('8B decode', 1, 8192, 8),
    normCase('130M prefill 2048', 2048, 1536, 1),
    normCase('2.7B prefill 2048', 2048, 5120, 1),
    normCase('8B prefill 4096', 4096, 8192, 8),
    normCase('8B prefill 4096, norm first', 4096, 8192, 8, true),
    normCase('heads of 128, 4096 x 32, norm first', 131_072, 128, 1, true),
  ],
};
