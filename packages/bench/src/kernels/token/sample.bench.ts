import type { Recording, SampleInputs, TensorRef } from '@mambalab/kernels';
import { sample, sampleSettings } from '@mambalab/kernels';
import { sample as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

/** Greedy, drawn at a temperature, filtered, or with everything that sampling can do. */
type Kind = 'greedy' | 'drawn' | 'filtered' | 'all';

const WINDOW = 1024;
const BIASES = 64;
const TOPS = 20;
const FILTERS = { temperature: 0.8, topK: 50, topP: 0.9, minP: 0.05 };
const PENALTIES = { repetitionPenalty: 1.1, presencePenalty: 0.2, frequencyPenalty: 0.2 };

function inputsOf(batch: number, vocabSize: number, kind: Kind): Readonly<Record<string, RandomInput>> {
  const settings = sampleSettings({
    ...(kind === 'drawn' ? { temperature: 0.8 } : FILTERS),
    ...(kind === 'all' ? PENALTIES : {}),
    seed: 1,
  });
  const u32 = (shape: readonly number[], below: number): RandomInput => ({ shape, dtype: 'u32', below });
  return {
    // As wide apart as a model's.
    logits: { shape: [batch, vocabSize], dtype: 'f32', scale: 3 },
    token: u32([batch], 1),
    ...(kind !== 'greedy' && { settings: { shape: [batch, settings.length], dtype: 'u32', words: [...settings] } }),
    ...(kind === 'all' && {
      recent: u32([batch, 1 + WINDOW], vocabSize),
      // Biases are the bits of floats near 0, which take as long as others.
      bias: u32([batch, BIASES, 2], vocabSize),
      mask: u32([batch, Math.ceil(vocabSize / 32)], 2 ** 32),
      logprob: { shape: [batch], dtype: 'f32' },
      topTokens: u32([batch, TOPS], 1),
      topLogprobs: { shape: [batch, TOPS], dtype: 'f32' },
    }),
  };
}

const recordOf =
  (kind: Kind) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const given: SampleInputs = { ...inputs, logits: input(inputs, 'logits'), token: input(inputs, 'token') };
    return sample(recording, given, { filters: kind === 'filtered' || kind === 'all' });
  };

const sampleCase = (model: string, batch: number, vocabSize: number, kind: Kind): KernelCase => ({
  label: `${model} ${kind}${batch === 1 ? '' : ` batch ${batch}`}`,
  inputs: inputsOf(batch, vocabSize, kind),
  record: recordOf(kind),
  flops: (kind === 'greedy' ? 1 : 50) * batch * vocabSize,
  bytes: 4 * batch * vocabSize,
});

export const sampleBench: KernelBench = {
  name: 'token/sample',
  verify: {
    inputs: inputsOf(3, 5000, 'filtered'),
    record: recordOf('filtered'),
    expected: (inputs) =>
      reference({ logits: values(inputs, 'logits') }, { rows: 3, width: 5000, ...FILTERS, seed: [1, 0] }),
    rtol: 0,
    atol: 1e-6,
  },
  cases: (['greedy', 'drawn', 'filtered', 'all'] as const).flatMap((kind) => [
    sampleCase('130M and 2.7B', 1, 50_288, kind),
    sampleCase('8B Llama', 1, 128_256, kind),
    sampleCase('8B', 1, 256_000, kind),
    sampleCase('130M and 2.7B', 64, 50_288, kind),
    sampleCase('8B Llama', 64, 128_256, kind),
  ]),
};
