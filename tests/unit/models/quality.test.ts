import { ArgumentError, IntegrityError } from '@mambalab/kernels';
import { LogitComparison, measureQuality, textChunks } from '@mambalab/models';
import type { Model } from '@mambalab/models';
import { describe, expect, it } from 'vitest';

const ln = Math.log;
const logits = (...rows: readonly (readonly number[])[]): Float32Array => Float32Array.from(rows.flat());

describe('LogitComparison', () => {
  it('gives what one works out by hand', () => {
    // Distributions (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4), then (3/4, 1/4, 0) and (3/4, 1/8, 1/8).
    const comparison = new LogitComparison();
    comparison.add(logits([ln(2), 0, 0], [ln(3), 0, -Infinity]), logits([5, 5 + ln(2), 5], [ln(6), 0, 0]), [1, 0]);
    const { tokens, meanKl, topOneAgreement, perplexity, referencePerplexity } = comparison.result();
    expect(tokens).toBe(2);
    // (1/2) ln 2 - (1/4) ln 2, and (1/4) ln 2.
    expect(meanKl).toBeCloseTo((0.25 * ln(2) + 0.25 * ln(2)) / 2, 6);
    expect(topOneAgreement).toBe(0.5);
    expect(perplexity).toBeCloseTo(Math.sqrt(2 * (4 / 3)), 6);
    expect(referencePerplexity).toBeCloseTo(Math.sqrt(4 * (4 / 3)), 6);
  });

  it('of equal logits is nothing, whatever is added to all of them', () => {
    const comparison = new LogitComparison();
    comparison.add(logits([1, 2, 3, -4]), logits([1, 2, 3, -4]), [2]);
    comparison.add(logits([1, 2, 3, -4]), logits([11, 12, 13, 6]), [2]);
    const { meanKl, topOneAgreement, perplexity, referencePerplexity } = comparison.result();
    expect(meanKl).toBeLessThan(1e-15);
    expect(topOneAgreement).toBe(1);
    expect(perplexity).toBeCloseTo(referencePerplexity, 12);
  });

  it('holds large logits, and is not symmetric', () => {
    const [a, b] = [logits([1000, 999, -1000]), logits([999, 1000, 990])];
    const kl = (first: Float32Array, second: Float32Array): number => {
      const comparison = new LogitComparison();
      comparison.add(first, second, [0]);
      return comparison.result().meanKl;
    };
    expect(kl(a, b)).toBeGreaterThan(0.4);
    expect(kl(a, b)).toBeLessThan(0.5);
    expect(kl(b, a)).not.toBeCloseTo(kl(a, b), 3);
    // What the model calls impossible although it happens.
    expect(kl(logits([0, 0]), logits([0, -Infinity]))).toBe(Infinity);
  });

  it('refuses what cannot be compared', () => {
    const comparison = new LogitComparison();
    expect(() => comparison.add(logits([1, 2]), logits([1, 2, 3]), [0])).toThrow(ArgumentError);
    expect(() => comparison.add(logits([1, 2, 3]), logits([1, 2, 3]), [0, 1])).toThrow(ArgumentError);
    expect(() => comparison.add(logits([1, 2]), logits([1, 2]), [2])).toThrow(/2 is no token/);
    expect(() => comparison.add(logits([1, 2]), logits([NaN, 2]), [0])).toThrow(IntegrityError);
    expect(() => comparison.add(logits([NaN, 2]), logits([1, 2]), [0])).toThrow(IntegrityError);
    expect(() => comparison.result()).toThrow(/nothing to compare/);
  });
});

describe('textChunks', () => {
  it('cuts a text into parts that begin as texts do', () => {
    expect(textChunks([1, 2, 3, 4, 5], 3, [])).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
    expect(textChunks([1, 2, 3, 4, 5], 3, [9])).toEqual([
      [9, 1, 2],
      [9, 3, 4],
      [9, 5],
    ]);
    expect(() => textChunks([1, 2], 2, [9])).toThrow(ArgumentError);
  });
});

describe('measureQuality', () => {
  /** A model whose logits for the token after t are t times those of (0, 1, 2). */
  const fake = (factor: number, vocabSize = 3): { readonly model: Model; readonly given: number[][] } => {
    const given: number[][] = [];
    const model = {
      spec: { vocabSize },
      logits: (tokens: readonly number[]) => {
        given.push([...tokens]);
        return Promise.resolve(Float32Array.from(tokens.flatMap((token) => [0, token * factor, token * 2 * factor])));
      },
    };
    return { model: model as unknown as Model, given };
  };

  it('predicts each token of each text but the first', async () => {
    const [one, two] = [fake(1), fake(2)];
    const counts: number[] = [];
    const onTokens = (tokens: number): number => counts.push(tokens);
    const quality = await measureQuality(one.model, two.model, [[1, 2, 0], [2], [1, 1]], { onTokens });
    expect(one.given).toEqual([[1, 2], [1]]);
    expect(two.given).toEqual(one.given);
    expect(counts).toEqual([2, 3]);
    const comparison = new LogitComparison();
    comparison.add(logits([0, 2, 4], [0, 4, 8], [0, 2, 4]), logits([0, 1, 2], [0, 2, 4], [0, 1, 2]), [2, 0, 1]);
    expect(quality).toEqual(comparison.result());
  });

  it('refuses models of different vocabularies', async () => {
    const measuring = measureQuality(fake(1).model, fake(1, 4).model, [[1, 2]]);
    await expect(measuring).rejects.toThrow(/vocabularies have 3 and 4 tokens/);
  });
});
