import { erfc } from '../activations.ts';
import { philox } from '../token/sample.ts';

export interface FillNormalOptions {
  /** Values to make. */
  readonly count: number;
  /** Low and high word. */
  readonly seed: readonly [number, number];
  /** Number of the first value; 0 by default. */
  readonly first?: number | undefined;
  /** 1 by default. */
  readonly scale?: number | undefined;
  /** 0 by default. */
  readonly offset?: number | undefined;
  /** Blocks of quants whose scale is not rounded, and which have no offset. */
  readonly quants?: 'q8' | 'q4' | undefined;
}

/** Quants of one standard deviation, and the largest one. */
const QUANTS = { q8: { spread: 32, most: 127 }, q4: { spread: 2.75, most: 7 } } as const;

/** z(i): of the four words of block floor(i / 4), two make a radius and an angle, whose cosine and sine are two values. */
function standardNormal(i: number, seed: readonly [number, number]): number {
  const block = Math.floor(i / 4);
  const words = philox([block % 2 ** 32, Math.floor(block / 2 ** 32), 1, 0], seed);
  const pair = i % 4 < 2 ? 0 : 2;
  const radius = Math.sqrt(-2 * Math.log1p(-((words[pair] ?? NaN) + 0.5) / 2 ** 32));
  const angle = (2 * Math.PI * (words[pair + 1] ?? NaN)) / 2 ** 32;
  return radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
}

/** The standard deviation of spread z, rounded and limited to -most .. most. */
function deviationOf(spread: number, most: number): number {
  const above = (quant: number): number => erfc((quant - 0.5) / spread / Math.SQRT2) / 2;
  let squares = 0;
  for (let n = 1; n <= most; n++) squares += 2 * (above(n) - (n < most ? above(n + 1) : 0)) * n ** 2;
  return Math.sqrt(squares);
}

/**
 * offset + scale * z(first + i), z(i) standard normal and a function of the seed and i. As quants, the nearest multiple of
 * d to it among -most d .. most d, d such that their standard deviation is `scale`.
 *
 * Shapes: result (count). Source: Box and Muller, 1958, doi 10.1214/aoms/1177706645.
 */
export function fillNormal(options: FillNormalOptions): Float64Array {
  const { count, seed, first = 0, scale = 1, offset = 0, quants } = options;
  const values = Float64Array.from({ length: count }, (_, i) => standardNormal(first + i, seed));
  if (quants === undefined) return values.map((z) => offset + scale * z);
  const { spread, most } = QUANTS[quants];
  const d = scale / deviationOf(spread, most);
  return values.map((z) => d * Math.max(-most, Math.min(most, Math.round(spread * z))));
}
