import { matmul } from '@mambalab/kernels';
import { matmul as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, values, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

const inputsOf = (
  rows: number,
  outputs: number,
  inner: number,
  dtype: MeasuredDtype = 'f16',
): KernelCase['inputs'] => ({
  x: { shape: [rows, inner], dtype: 'f32' },
  weight: { shape: [outputs, inner], dtype, matrix: true },
});

const record: KernelBench['verify']['record'] = (recording, inputs) =>
  matmul(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') });

const matmulCase = (
  label: string,
  rows: number,
  outputs: number,
  inner: number,
  dtype: MeasuredDtype = 'f16',
): KernelCase => ({
  label: `${label} prefill ${rows}${dtypeLabel(dtype)}`,
  inputs: inputsOf(rows, outputs, inner, dtype),
  record,
  flops: 2 * rows * outputs * inner,
  bytes: WEIGHT_BYTES[dtype] * outputs * inner + 4 * rows * (outputs + inner),
});

export const matmulBench: KernelBench = {
  name: 'linear/matmul',
  verify: {
    inputs: inputsOf(70, 130, 72),
    record,
    expected: (inputs) =>
      reference({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows: 70, inner: 72, outputs: 130 }),
    // Matrix units round x to f16, 2^-11 of every product; without them the tests of the kernel hold it to 1e-5.
    rtol: 1e-5,
    atol: 0.025,
  },
  cases: [
    matmulCase('130M in_proj', 512, 3352, 768),
    matmulCase('130M out_proj', 512, 768, 1536),
    matmulCase('2.7B in_proj', 16, 10_576, 2560),
    matmulCase('2.7B in_proj', 512, 10_576, 2560),
    matmulCase('2.7B out_proj', 512, 2560, 5120),
    matmulCase('8B in_proj', 512, 18_560, 4096),
    matmulCase('8B mlp up', 512, 16_384, 4096),
    matmulCase('8B square', 4096, 4096, 4096),
    matmulCase('Llama 1B up', 512, 8192, 2048),
    matmulCase('Llama 1B down', 512, 2048, 8192),
    ...(['q8', 'q4'] as const).flatMap((dtype) => [
      matmulCase('2.7B in_proj', 16, 10_576, 2560, dtype),
      matmulCase('2.7B in_proj', 512, 10_576, 2560, dtype),
      matmulCase('8B in_proj', 512, 18_560, 4096, dtype),
      matmulCase('8B mlp up', 512, 16_384, 4096, dtype),
    ]),
  ],
};
