import type { Recording, TensorRef } from '@mambalab/kernels';
import { fillNormal } from '@mambalab/kernels';
import { fillNormal as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype, RandomInput } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

const SEED = [42, 1] as const;

const outOf = (rows: number, width: number, dtype: RandomInput['dtype']): Readonly<Record<string, RandomInput>> => ({
  out: { shape: [rows, width], dtype, matrix: dtype !== 'f32' },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  fillNormal(recording, { out: input(inputs, 'out') }, { seed: SEED, first: 17, scale: 0.5 });

const fillCase = (label: string, rows: number, width: number, dtype: MeasuredDtype): KernelCase => ({
  label: `${label}${dtypeLabel(dtype)}`,
  inputs: outOf(rows, width, dtype),
  record,
  // Most of them on whole numbers.
  flops: 100 * rows * width,
  bytes: WEIGHT_BYTES[dtype] * rows * width,
});

export const fillNormalBench: KernelBench = {
  name: 'random/fill_normal',
  verify: {
    inputs: outOf(9, 70, 'f32'),
    record,
    expected: () => reference({ count: 630, seed: SEED, first: 17, scale: 0.5 }),
    rtol: 1e-6,
    atol: 1e-6,
  },
  cases: (['f16', 'q8', 'q4'] as const).flatMap((dtype) => [
    fillCase('2.7B in_proj', 10_576, 2560, dtype),
    fillCase('8B up', 16_384, 4096, dtype),
  ]),
};
