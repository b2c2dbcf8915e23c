import { ceilingFma, FMA_FLOPS } from '@mambalab/kernels';
import { ceilingFma as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const MAP = { scale: 0.97, shift: 0.03 };

/** Multiply-adds of `count` invocations, 32 in each iteration. */
export const fmaCase = (count: number, iterations: number): KernelCase => ({
  label: `${count} invocations, ${iterations} iterations`,
  inputs: { x: { shape: [count], dtype: 'f32' } },
  record: (recording, inputs) => ceilingFma(recording, { x: input(inputs, 'x') }, { iterations, ...MAP }),
  flops: FMA_FLOPS * count * iterations,
  bytes: 8 * count,
});

export const fmaBench: KernelBench = {
  name: 'ceiling/fma',
  verify: {
    inputs: { x: { shape: [300], dtype: 'f32' } },
    record: (recording, inputs) => ceilingFma(recording, { x: input(inputs, 'x') }, { iterations: 64, ...MAP }),
    expected: (inputs) => reference({ x: values(inputs, 'x') }, { iterations: 64, ...MAP }),
    rtol: 1e-5,
    atol: 1e-4,
  },
  cases: [fmaCase(2 ** 12, 256), fmaCase(2 ** 20, 1024)],
};
