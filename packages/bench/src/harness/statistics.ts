/** What repeated measurements of one thing say about it. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
  /** Interquartile range over the median: how far the middle half of the samples spreads. */
  readonly spread: number;
  readonly samples: number;
}

/** The value below which `fraction` of the sorted samples lie, between two of them by interpolation. */
export function quantile(sorted: readonly number[], fraction: number): number {
  const at = (sorted.length - 1) * fraction;
  const low = sorted[Math.floor(at)] ?? NaN;
  const high = sorted[Math.ceil(at)] ?? NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** @throws RangeError if there are no samples, or one is not a number */
export function summarize(samples: readonly number[]): Summary {
  if (samples.length === 0 || samples.some((sample) => !Number.isFinite(sample))) {
    throw new RangeError(`Finite samples are summarized; found [${samples.join(', ')}].`);
  }
  const sorted = [...samples].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  const lowerQuartile = quantile(sorted, 0.25);
  const upperQuartile = quantile(sorted, 0.75);
  const spread = median === 0 ? 0 : (upperQuartile - lowerQuartile) / median;
  return { median, min: sorted[0] ?? NaN, lowerQuartile, upperQuartile, spread, samples: samples.length };
}
