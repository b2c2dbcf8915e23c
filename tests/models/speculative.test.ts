import type { GenerateOptions, Model } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const open = (name: string, options: object = {}): Promise<Model> =>
  loadModel(fixturePath(`models/${name}`), { device, contextLength: 64, warmUp: false, ...options });

// All of them have 128 tokens.
const draft = await open('mamba2');
const prompt = [3, 14, 15, 92, 65, 35, 89, 79, 3, 14];

const isLong = process.env['MAMBALAB_LONG'] === '1';
const ways: readonly GenerateOptions[] = [
  {},
  ...(isLong ? [{ temperature: 1.2, seed: 5 }] : []),
  { temperature: 1, topK: 20, frequencyPenalty: 0.5, presencePenalty: 0.2, logprobs: 2, seed: 9 },
];

// Recurrent states are rolled back by copies, caches by their length; this one has both.
describe.each(isLong ? ['mamba', 'llama', 'nemotron_h', 'lfm2', 'qwen3_next', 'jamba'] : ['nemotron_h'])(
  '%s writes what it writes without guesses',
  (name) => {
    it('by another model, by itself and by the text', async () => {
      using model = await open(name);
      for (const way of ways) {
        const options = { maxTokens: 10, ignoreEos: true, ...way };
        const plain = await model.generate(prompt, options).result;
        // Pipelines take their time on a CPU: a usual run has each kind of guess once.
        const sources = isLong
          ? ([draft, model, 'prompt-lookup'] as const)
          : way.temperature === undefined
            ? [draft]
            : ([model, 'prompt-lookup'] as const);
        for (const source of sources) {
          const result = await model.generate(prompt, { ...options, draft: source, draftTokens: 3 }).result;
          expect(result.tokens).toEqual(plain.tokens);
          expect(result.finishReason).toBe('length');
          const { draftedTokens = 0, acceptedTokens = 0 } = result.timings;
          expect(acceptedTokens).toBeLessThanOrEqual(draftedTokens);
          // A model that guesses for itself is always right, by the same random numbers.
          expect(source !== model || (draftedTokens > 4 && acceptedTokens === draftedTokens)).toBe(true);
          for (const [at, logprob] of (result.logprobs ?? []).entries()) {
            expect(Math.abs(logprob - (plain.logprobs?.[at] ?? NaN))).toBeLessThan(1e-3);
          }
        }
      }
    });
  },
);

it('stops, aborts and fills the context as without guesses', async () => {
  using model = await open('nemotron_h', { contextLength: 18 });
  const plain = await model.generate(prompt, { maxTokens: 40, ignoreEos: true }).result;
  const guessed = await model.generate(prompt, { maxTokens: 40, ignoreEos: true, draft }).result;
  expect([guessed.tokens, guessed.finishReason]).toEqual([plain.tokens, plain.finishReason]);
  const stop = plain.tokens[4] ?? 0;
  const stopped = await model.generate(prompt, { ignoreEos: true, stopTokens: [stop], draft }).result;
  expect([stopped.tokens, stopped.finishReason]).toEqual([plain.tokens.slice(0, plain.tokens.indexOf(stop)), 'stop']);
  const controller = new AbortController();
  const text = model.generate(prompt, { ignoreEos: true, draft, signal: controller.signal });
  const reading = (async (): Promise<void> => {
    for await (const _ of text) controller.abort(new Error('enough'));
  })();
  await expect(reading).rejects.toThrow('enough');
});

it('guesses what followed earlier', async () => {
  const { promptLookup } = await import('../../packages/models/src/generation/speculative.ts');
  expect(await promptLookup.propose([1, 2, 3, 4, 9, 2, 3], 3)).toEqual([4, 9, 2]);
  // The latest place, and the longest match.
  expect(await promptLookup.propose([7, 1, 8, 1, 9, 1], 1)).toEqual([9]);
  expect(await promptLookup.propose([5, 7, 1, 6, 1, 7, 1], 2)).toEqual([6, 1]);
  expect(await promptLookup.propose([1, 2, 3], 4)).toEqual([]);
  expect(await promptLookup.propose([1], 4)).toEqual([]);
});

it('refuses a draft that does not fit', async () => {
  const stories = await open('stories260k');
  await expect(draft.generate(prompt, { draft: stories }).result).rejects.toThrow("'draft' has 512 tokens");
  await expect(draft.generate(prompt, { draft, draftTokens: 8 }).result).rejects.toThrow("'draftTokens'");
  await expect(draft.generate(prompt, { draft, logitsProcessor: () => undefined }).result).rejects.toThrow("'draft'");
});
