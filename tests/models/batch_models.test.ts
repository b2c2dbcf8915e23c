import type { GenerateOptions, GenerationResult, Model } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { Random } from '../support/numbers.ts';

const device = await openTestDevice();
const isLong = process.env['MAMBALAB_LONG'] === '1';

const open = (name: string, contextLength = 64): Promise<Model> =>
  loadModel(fixturePath(`models/${name}`), { device, contextLength, warmUp: false });

type Call = readonly [prompt: readonly number[], options: GenerateOptions];

const WAYS: readonly GenerateOptions[] = [
  { maxTokens: 12, logitBias: { 3: 2, 7: -Infinity }, logprobs: 2 },
  { maxTokens: 8, temperature: 1, seed: 5, topK: 20, repetitionPenalty: 1.3, presencePenalty: 0.2 },
  ...(isLong ? [{ maxTokens: 10, temperature: 0.8, seed: 6, minP: 0.01, logprobs: 0 }] : []),
];
/** What the sampling of a batch of them has. */
const FEATURES = { filters: true, penalties: true, bias: true, mask: false, tops: 5 };

function calls(vocabSize: number, ways: readonly GenerateOptions[] = WAYS): Call[] {
  const random = new Random(12);
  return ways.map((way, index) => [[...random.integers(3 + 2 * index, vocabSize)], { ignoreEos: true, ...way }]);
}

/** The same texts one after the other, and together: each begins when the one before it has written a token. */
async function both(model: Model, each: readonly Call[]): Promise<{ most: number }> {
  const alone: GenerationResult[] = [];
  for (const [prompt, options] of each) alone.push(await model.generate(prompt, options).result);
  let most = 0;
  let before: Promise<void> = Promise.resolve();
  const together = each.map(async ([prompt, options]) => {
    const begins = before;
    const text = model.generate(prompt, options);
    const reader = text[Symbol.asyncIterator]();
    const begun = (async (): Promise<void> => {
      await begins;
      await reader.next();
    })();
    before = begun;
    await begun;
    for (let next = await reader.next(); next.done !== true; next = await reader.next()) {
      most = Math.max(most, model.scheduler.batched);
    }
    return await text.result;
  });
  for (const [index, result] of (await Promise.all(together)).entries()) {
    const expected = alone[index];
    expect(result.tokens).toEqual(expected?.tokens);
    for (const [at, logprob] of (expected?.logprobs ?? []).entries()) {
      expect(Math.abs((result.logprobs?.[at] ?? NaN) - logprob)).toBeLessThan(1e-3);
    }
  }
  expect(model.scheduler.batched).toBe(0);
  return { most };
}

// Selective scans and experts; in a long run gated delta nets, Mamba-2, short convolutions and windows as well.
const MORE = ['qwen3_next', 'granitemoehybrid', 'lfm2', 'gemma3_text', 'falcon_h1', 'zamba2', 'olmo_hybrid'];
describe.each(['variants/jamba', ...(isLong ? MORE : [])])('%s', (name) => {
  it('writes together what it writes alone, whatever the options', async () => {
    using model = await open(name);
    // Compiling takes longer than writing.
    for (const size of isLong ? [2, 4] : [2]) await model.runtime.decodePlan(model.contextLength, size, FEATURES);
    expect((await both(model, calls(model.spec.vocabSize))).most).toBeGreaterThan(1);
  });
});

it.runIf(isLong)('writes together what it writes alone where a window left pages behind', async () => {
  using model = await open('variants/mistral', 4096);
  await model.runtime.decodePlan(2048, 2);
  const random = new Random(3);
  const each: readonly Call[] = [
    [[...random.integers(1100, 32)], { maxTokens: 12, ignoreEos: true }],
    [[...random.integers(5, 32)], { maxTokens: 9, ignoreEos: true, temperature: 1, seed: 2 }],
  ];
  expect((await both(model, each)).most).toBe(2);
});
