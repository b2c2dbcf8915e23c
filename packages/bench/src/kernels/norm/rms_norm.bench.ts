import { rmsNorm } from '@mambalab/kernels';
import { rmsNorm as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const normCase = (label: string, rows: number, width: number): KernelCase => ({
  label,
  inputs: { x: { shape: [rows, width], dtype: 'f32' }, weight: { shape: [width], dtype: 'f32' } },
  record: (recording, inputs) => rmsNorm(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }),
  flops: 4 * rows * width,
  bytes: 4 * (2 * rows * width + width),
});

/** The residual stream takes the output of the last layer, then is normalised for the next. */
const addCase = (label: string, rows: number, width: number): KernelCase => ({
  label,
  inputs: {
    x: { shape: [rows, width], dtype: 'f32' },
    residual: { shape: [rows, width], dtype: 'f32' },
    weight: { shape: [width], dtype: 'f32' },
  },
  record: (recording, inputs) =>
    rmsNorm(recording, {
      x: input(inputs, 'x'),
      residual: input(inputs, 'residual'),
      weight: input(inputs, 'weight'),
    }),
  flops: 5 * rows * width,
  bytes: 4 * (4 * rows * width + width),
});

export const rmsNormBench: KernelBench = {
  name: 'norm/rms_norm',
  verify: {
    inputs: { x: { shape: [5, 768], dtype: 'f32' }, weight: { shape: [768], dtype: 'f32' } },
    record: (recording, inputs) => rmsNorm(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }),
    expected: (inputs) =>
      reference({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows: 5, width: 768, eps: 1e-5 }),
    rtol: 2e-6,
    atol: 2e-6,
  },
  cases: [
    normCase('130M decode', 1, 768),
    normCase('2.7B decode', 1, 2560),
    normCase('8B decode', 1, 4096),
    normCase('130M prefill 2048', 2048, 768),
    normCase('2.7B prefill 2048', 2048, 2560),
    normCase('8B prefill 4096', 4096, 4096),
    normCase('8192 x 8192', 8192, 8192),
    normCase('heads of 128, 4096 x 32', 131_072, 128),
    addCase('8B decode, residual', 1, 4096),
    addCase('8B prefill 4096, residual', 4096, 4096),
  ],
};
