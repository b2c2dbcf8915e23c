import type { Recording, TensorRef } from '@mambalab/kernels';
import { layerNorm } from '@mambalab/kernels';
import { layerNorm as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const tensors = (rows: number, width: number): Readonly<Record<string, RandomInput>> => ({
  x: { shape: [rows, width], dtype: 'f32' },
  weight: { shape: [width], dtype: 'f32' },
  bias: { shape: [width], dtype: 'f32' },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  layerNorm(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight'), bias: input(inputs, 'bias') });

const normCase = (label: string, rows: number, width: number): KernelCase => ({
  label,
  inputs: tensors(rows, width),
  record,
  flops: 8 * rows * width,
  bytes: 4 * (2 * rows * width + 2 * width),
});

export const layerNormBench: KernelBench = {
  name: 'norm/layer_norm',
  verify: {
    inputs: tensors(5, 768),
    record,
    expected: (inputs) =>
      reference(
        { x: values(inputs, 'x'), weight: values(inputs, 'weight'), bias: values(inputs, 'bias') },
        { rows: 5, width: 768, eps: 1e-5 },
      ),
    rtol: 4e-6,
    atol: 4e-6,
  },
  cases: [
    normCase('130M decode', 1, 768),
    normCase('8B decode', 1, 4096),
    normCase('130M prefill 2048', 2048, 768),
    normCase('2.7B prefill 2048', 2048, 2560),
    normCase('8B prefill 4096', 4096, 4096),
    normCase('8192 x 8192', 8192, 8192),
  ],
};
