import { quantile, summarize } from '@mambalab/bench';
import { describe, expect, it } from 'vitest';

describe('summarize', () => {
  it('gives median, minimum, quartiles and spread, whatever the order', () => {
    expect(summarize([5, 1, 4, 2, 3])).toEqual({
      median: 3,
      min: 1,
      lowerQuartile: 2,
      upperQuartile: 4,
      spread: 2 / 3,
      samples: 5,
    });
  });

  it('interpolates between the two middle samples', () => {
    expect(summarize([1, 2, 3, 10]).median).toBe(2.5);
    expect(quantile([0, 10], 0.25)).toBe(2.5);
  });

  it('takes one sample, and samples that are all zero', () => {
    expect(summarize([7])).toMatchObject({ median: 7, spread: 0 });
    expect(summarize([0, 0])).toMatchObject({ median: 0, spread: 0 });
  });

  it('refuses no samples and samples that are not numbers', () => {
    expect(() => summarize([])).toThrow(RangeError);
    expect(() => summarize([1, NaN])).toThrow(RangeError);
  });
});
