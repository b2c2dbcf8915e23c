import { parameterCount, parseConfig } from '@mambalab/models';
import { formatBytes } from '../format.ts';
import type { Ceilings } from '../results.ts';
import { architectureConfig, SCALES } from './family.ts';
import type { FamilyShape } from './family.ts';
import { ARCHITECTURES } from './results.ts';

/** Bytes of a value in each storage type, the scales of blocks among them. */
const BYTES_OF_VALUE: Readonly<Record<string, number>> = { f32: 4, f16: 2, bf16: 2, q8: 34 / 32, q4: 18 / 32 };

/** Milliseconds that reading all weights once may take: longer steps would make a run of minutes. */
const LONGEST_STEP = { full: 25, quick: 3 };

/** Weights may take this share of the memory: the rest is for caches. */
const WEIGHTS_SHARE = 0.5;

/** Bytes of the weights of a configuration, to within the exceptions that stay in a larger type. */
export function weightsBytesOf(config: Readonly<Record<string, unknown>>, dtype: string): number {
  return parameterCount(parseConfig(config)) * (BYTES_OF_VALUE[dtype] ?? 4);
}

export interface ChosenScale {
  readonly scale: string;
  readonly shape: FamilyShape;
  readonly reason: string;
}

/** The largest family whose weights leave room for caches and can be read in a few milliseconds. */
export function chooseScale(memory: number, ceilings: Ceilings, dtype: string, quick: boolean): ChosenScale {
  const longest = quick ? LONGEST_STEP.quick : LONGEST_STEP.full;
  const names = Object.keys(SCALES);
  for (const scale of names) {
    const shape = SCALES[scale];
    if (shape === undefined) continue;
    const bytes = Math.max(...ARCHITECTURES.map((name) => weightsBytesOf(architectureConfig(name, shape), dtype)));
    const milliseconds = bytes / ceilings.readGigabytesPerSecond / 1e6;
    const isLast = scale === names[names.length - 1];
    if (!isLast && (bytes > WEIGHTS_SHARE * memory || milliseconds > longest)) continue;
    const reason =
      `the largest whose weights (${formatBytes(bytes)}) take no more than half of ${formatBytes(memory)} ` +
      `and are read in ${longest} ms by the read ceiling`;
    return { scale, shape, reason: isLast ? 'the smallest' : reason };
  }
  throw new RangeError('There is no scale.');
}
