import { ArgumentError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../../packages/models/src/generation/options.ts';
import { planGeneration } from '../../../packages/models/src/generation/options.ts';

const defaults = { eosTokens: [2], contextLength: 100, vocabSize: 50, sampling: { temperature: 0.5, topK: 9 } };
const planOf = (options: GenerateOptions): ReturnType<typeof planGeneration> => planGeneration([1], options, defaults);

describe('planGeneration', () => {
  it('fills in what is not said', () => {
    const plan = planOf({});
    expect(plan).toMatchObject({ prompt: [1], maxTokens: 256, contextLength: 100 });
    expect(plan.sampling.temperature).toBe(0.5);
    expect([...plan.stops]).toEqual([2]);
  });

  it('joins stop tokens with those of the model, or leaves the latter out', () => {
    expect([...planOf({ stopTokens: [7, 2] }).stops].sort()).toEqual([2, 7]);
    expect([...planOf({ stopTokens: [7], ignoreEos: true }).stops]).toEqual([7]);
  });

  it('splits a seed into two words', () => {
    expect(planOf({ seed: 5 }).sampling.seed).toEqual([5, 0]);
    expect(planOf({ seed: 3 * 2 ** 32 + 7 }).sampling.seed).toEqual([7, 3]);
    expect(planOf({ seed: -1 }).sampling.seed).toEqual([0xffffffff, 0xffffffff]);
    expect(planOf({}).sampling.seed).not.toEqual(planOf({}).sampling.seed);
  });

  it.each<[string, GenerateOptions]>([
    ['maxTokens', { maxTokens: 0 }],
    ['maxTokens', { maxTokens: 1.5 }],
    ['maxTokens', { maxTokens: Infinity }],
    ['temperature', { temperature: -0.1 }],
    ['temperature', { temperature: NaN }],
    ['seed', { seed: 0.5 }],
    ['seed', { seed: 2 ** 60 }],
  ])('refuses %s in %o', (name, options) => {
    expect(() => planOf(options)).toThrow(ArgumentError);
    expect(() => planOf(options)).toThrow(`'${name}'`);
  });
});
