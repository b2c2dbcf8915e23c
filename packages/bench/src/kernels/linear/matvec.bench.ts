import { matvec } from '@mambalab/kernels';
import { matvec as reference } from '@mambalab/kernels/reference';
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
  normWeight: { shape: [inner], dtype: 'f32' },
});

/** With `norm`, the RMS norm before the layer is folded in, as decoding does for every first projection. */
const matvecCase = (
  label: string,
  outputs: number,
  inner: number,
  { norm = false, rows = 1, dtype = 'f16' }: { norm?: boolean; rows?: number; dtype?: MeasuredDtype } = {},
): KernelCase => ({
  label: `${label}${dtypeLabel(dtype)}`,
  inputs: inputsOf(rows, outputs, inner, dtype),
  record: (recording, inputs) =>
    matvec(recording, {
      x: input(inputs, 'x'),
      weight: input(inputs, 'weight'),
      ...(norm && { normWeight: input(inputs, 'normWeight') }),
    }),
  flops: 2 * rows * outputs * inner,
  bytes: WEIGHT_BYTES[dtype] * outputs * inner + 4 * rows * (outputs + inner),
});

export const matvecBench: KernelBench = {
  name: 'linear/matvec',
  verify: {
    inputs: inputsOf(2, 130, 264),
    record: (recording, inputs) => matvec(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }),
    expected: (inputs) =>
      reference({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows: 2, inner: 264, outputs: 130 }),
    rtol: 1e-5,
    atol: 1e-3,
  },
  cases: [
    matvecCase('130M in_proj decode', 3352, 768, { norm: true }),
    matvecCase('130M out_proj decode', 768, 1536),
    matvecCase('2.7B in_proj decode', 10_576, 2560, { norm: true }),
    matvecCase('2.7B out_proj decode', 2560, 5120),
    matvecCase('2.7B in_proj decode, 4 rows', 10_576, 2560, { rows: 4 }),
    matvecCase('8B in_proj decode', 18_560, 4096, { norm: true }),
    matvecCase('8B square decode', 4096, 4096),
    matvecCase('8B mlp up decode', 16_384, 4096),
    matvecCase('8B mlp down decode', 4096, 16_384),
    matvecCase('Llama 1B up decode', 8192, 2048, { norm: true }),
    matvecCase('Llama 1B down decode', 2048, 8192),
    matvecCase('Llama 1B vocabulary decode', 128_256, 2048, { norm: true }),
    ...(['q8', 'q4'] as const).flatMap((dtype) => [
      matvecCase('2.7B in_proj decode', 10_576, 2560, { norm: true, dtype }),
      matvecCase('2.7B out_proj decode', 2560, 5120, { dtype }),
      matvecCase('2.7B in_proj decode, 4 rows', 10_576, 2560, { rows: 4, dtype }),
      matvecCase('8B in_proj decode', 18_560, 4096, { norm: true, dtype }),
      matvecCase('8B square decode', 4096, 4096, { dtype }),
      matvecCase('8B mlp up decode', 16_384, 4096, { dtype }),
      matvecCase('8B mlp down decode', 4096, 16_384, { dtype }),
    ]),
  ],
};
