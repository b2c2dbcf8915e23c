import { ceilingCopy, COPY_TILE } from '@mambalab/kernels';
import { ceilingCopy as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

/** Reading about so many bytes and writing as many. */
export const copyCase = (bytes: number): KernelCase => {
  const count = Math.max(1, Math.round(bytes / 4 / COPY_TILE)) * COPY_TILE;
  return {
    label: `${(count * 4) / 2 ** 20} MiB`,
    inputs: { x: { shape: [count], dtype: 'f32' } },
    record: (recording, inputs) => ceilingCopy(recording, { x: input(inputs, 'x') }),
    flops: 0,
    bytes: 8 * count,
  };
};

export const copyBench: KernelBench = {
  name: 'ceiling/copy',
  verify: {
    inputs: { x: { shape: [3 * COPY_TILE], dtype: 'f32' } },
    record: (recording, inputs) => ceilingCopy(recording, { x: input(inputs, 'x') }),
    expected: (inputs) => reference({ x: values(inputs, 'x') }),
    rtol: 0,
    atol: 0,
  },
  cases: [copyCase(2 ** 23), copyCase(2 ** 29)],
};
