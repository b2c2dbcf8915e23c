import type { Recording, TensorRef } from '@mambalab/kernels';
import { sample } from '@mambalab/kernels';
import { sample as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

/** Bits of the temperatures that random settings hold: u32 below this are floats from 0 to 2. */
const BITS_OF_TWO = 0x40000000;

const inputsOf = (batch: number, vocabSize: number, drawn: boolean): Readonly<Record<string, RandomInput>> => ({
  logits: { shape: [batch, vocabSize], dtype: 'f32' },
  token: { shape: [batch], dtype: 'u32', below: 1 },
  ...(drawn ? { settings: { shape: [batch, 4], dtype: 'u32', below: BITS_OF_TWO } } : {}),
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
  const { settings } = inputs;
  const given = { logits: input(inputs, 'logits'), token: input(inputs, 'token') };
  return sample(recording, settings === undefined ? given : { ...given, settings });
};

const sampleCase = (label: string, batch: number, vocabSize: number, drawn: boolean): KernelCase => ({
  label,
  inputs: inputsOf(batch, vocabSize, drawn),
  record,
  flops: (drawn ? 50 : 1) * batch * vocabSize,
  bytes: 4 * batch * vocabSize,
});

export const sampleBench: KernelBench = {
  name: 'token/sample',
  verify: {
    inputs: inputsOf(3, 5000, false),
    record,
    expected: (inputs) => reference({ logits: values(inputs, 'logits') }, { rows: 3, width: 5000 }),
    rtol: 0,
    atol: 1e-6,
  },
  cases: [
    sampleCase('130M and 2.7B greedy', 1, 50_288, false),
    sampleCase('8B greedy', 1, 256_000, false),
    sampleCase('130M and 2.7B drawn', 1, 50_288, true),
    sampleCase('8B drawn', 1, 256_000, true),
    sampleCase('8B drawn batch 32', 32, 256_000, true),
  ],
};
