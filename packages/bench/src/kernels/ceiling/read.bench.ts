import { ceilingRead, READ_TILE } from '@mambalab/kernels';
import { ceilingRead as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

/** Reading about so many bytes. */
export const readCase = (bytes: number): KernelCase => {
  const count = Math.max(1, Math.round(bytes / 4 / READ_TILE)) * READ_TILE;
  return {
    label: `${(count * 4) / 2 ** 20} MiB`,
    inputs: { x: { shape: [count], dtype: 'f32' } },
    record: (recording, inputs) => ceilingRead(recording, { x: input(inputs, 'x') }),
    flops: count,
    bytes: 4 * count + count / 32,
  };
};

export const readBench: KernelBench = {
  name: 'ceiling/read',
  verify: {
    inputs: { x: { shape: [2 * READ_TILE], dtype: 'f32' } },
    record: (recording, inputs) => ceilingRead(recording, { x: input(inputs, 'x') }),
    expected: (inputs) => reference({ x: values(inputs, 'x') }),
    rtol: 1e-5,
    atol: 2e-5,
  },
  cases: [readCase(2 ** 24), readCase(2 ** 30)],
};
