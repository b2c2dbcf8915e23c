import type { Recording, TensorRef } from '@mambalab/kernels';
import { advance } from '@mambalab/kernels';
import { advance as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const inputsOf = (batch: number): Readonly<Record<string, RandomInput>> => ({
  position: { shape: [batch], dtype: 'u32', below: 1000 },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  advance(recording, { position: input(inputs, 'position') }, { by: 3 });

const advanceCase = (label: string, batch: number): KernelCase => ({
  label,
  inputs: inputsOf(batch),
  record,
  flops: batch,
  bytes: 8 * batch,
});

export const advanceBench: KernelBench = {
  name: 'token/advance',
  verify: {
    inputs: inputsOf(70),
    record,
    expected: (inputs) => reference({ position: values(inputs, 'position') }, { rows: 70, by: 3 }),
    rtol: 0,
    atol: 1e-6,
  },
  cases: [advanceCase('one sequence', 1), advanceCase('64 sequences', 64)],
};
