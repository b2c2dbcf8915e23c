import { linear } from '@mambalab/kernels';
import { matmul as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const [OUTPUTS, INNER] = [4096, 4096];

const inputsOf = (rows: number, outputs: number, inner: number): KernelCase['inputs'] => ({
  x: { shape: [rows, inner], dtype: 'f32' },
  weight: { shape: [outputs, inner], dtype: 'f16', matrix: true },
});

const record: KernelBench['verify']['record'] = (recording, inputs) =>
  linear(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') });

/** Both sides of the number of rows at which `linear` changes from matvec to matmul. */
export const linearBench: KernelBench = {
  name: 'linear/linear',
  verify: {
    inputs: inputsOf(9, 40, 72),
    record,
    expected: (inputs) =>
      reference({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows: 9, inner: 72, outputs: 40 }),
    // Matrix units round x to f16, 2^-11 of every product; without them the tests of the kernel hold it to 1e-5.
    rtol: 1e-5,
    atol: 0.025,
  },
  cases: [1, 2, 4, 5, 8, 9, 16].map((rows) => ({
    label: `8B square, ${rows} rows`,
    inputs: inputsOf(rows, OUTPUTS, INNER),
    record,
    flops: 2 * rows * OUTPUTS * INNER,
    bytes: 2 * OUTPUTS * INNER + 4 * rows * (OUTPUTS + INNER),
  })),
};
