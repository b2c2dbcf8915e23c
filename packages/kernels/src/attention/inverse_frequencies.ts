import { requireArgument } from '../core/checks.ts';

/** Linear position interpolation (arXiv 2306.15595): every frequency is divided by `factor`. */
export interface LinearRopeScaling {
  readonly type: 'linear';
  readonly factor: number;
}

/** The scaling of Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, and blended between. */
export interface Llama3RopeScaling {
  readonly type: 'llama3';
  readonly factor: number;
  /** Wavelengths above originalContextLength / lowFrequencyFactor are stretched. */
  readonly lowFrequencyFactor: number;
  /** Wavelengths below originalContextLength / highFrequencyFactor are kept. */
  readonly highFrequencyFactor: number;
  /** Tokens of the context before the stretch */
  readonly originalContextLength: number;
}

/**
 * YaRN (arXiv 2309.00071): long wavelengths are stretched by `factor`, short ones kept, and blended between by index.
 * Rotated values are scaled too: see `ropeAttentionFactor`.
 */
export interface YarnRopeScaling {
  readonly type: 'yarn';
  readonly factor: number;
  /** Tokens of the context before the stretch */
  readonly originalContextLength: number;
  /** Pairs that turn more often than this over the original context are kept; 32 when absent (`beta_fast`). */
  readonly fastTurns?: number;
  /** Pairs that turn less often than this are stretched; 1 when absent (`beta_slow`). */
  readonly slowTurns?: number;
  /** Whether the ends of the blend are rounded outwards to whole pairs; true when absent. */
  readonly truncate?: boolean;
  /** Given where the configuration has it; otherwise from `factor` and the two below. */
  readonly attentionFactor?: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
}

/** LongRoPE (arXiv 2402.13753): every frequency is divided by a factor of its own, for short or for long contexts. */
export interface LongRopeScaling {
  readonly type: 'longrope';
  /** The context's growth, from which the attention factor follows */
  readonly factor: number;
  /** (rotaryDim / 2) divisors for contexts of up to originalContextLength tokens */
  readonly shortFactors: readonly number[];
  /** (rotaryDim / 2) divisors for longer ones */
  readonly longFactors: readonly number[];
  readonly originalContextLength: number;
  /** Tokens of the context that the frequencies are for */
  readonly contextLength: number;
  readonly attentionFactor?: number;
}

/** NTK-aware scaling for one context length: the base grows with what exceeds the original context. */
export interface DynamicRopeScaling {
  readonly type: 'dynamic';
  readonly factor: number;
  readonly originalContextLength: number;
  /** Tokens of the context that the frequencies are for */
  readonly contextLength: number;
}

export type RopeScaling =
  LinearRopeScaling | Llama3RopeScaling | YarnRopeScaling | LongRopeScaling | DynamicRopeScaling;

export interface RopeInverseFrequenciesOptions {
  /** Base of the frequencies, such as 10000 */
  readonly theta: number;
  /** Values of a head that rotate; even */
  readonly rotaryDim: number;
  readonly scaling?: RopeScaling;
}

/**
 * `f[i] = theta^(-2 i / rotaryDim)` for i < rotaryDim / 2, in radians per token, then scaled.
 *
 * @returns (rotaryDim / 2), computed in float64 and rounded once
 * @throws ArgumentError if `rotaryDim` is not a positive even number, `theta` or a number of a scaling is not positive, or
 *   LongRoPE has not one divisor a frequency
 *
 * Source: arXiv 2104.09864, equation 15; `ROPE_INIT_FUNCTIONS` of transformers.
 */
export function ropeInverseFrequencies(options: RopeInverseFrequenciesOptions): Float32Array {
  const { theta, rotaryDim, scaling } = options;
  requireArgument(
    Number.isInteger(rotaryDim) && rotaryDim > 0 && rotaryDim % 2 === 0,
    `ropeInverseFrequencies: rotaryDim must be a positive even number; found ${rotaryDim}.`,
    'Give the number of values of a head that rotate.',
  );
  requireScaling(theta, rotaryDim / 2, scaling);
  const base = scaling?.type === 'dynamic' ? dynamicBase(theta, rotaryDim, scaling) : theta;
  const scale = scalingOf(base, rotaryDim, scaling);
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => scale(base ** ((-2 * i) / rotaryDim), i));
}

/**
 * The factor of rotated queries and keys that goes with a scaling, for `scale` of `rope`: 1 but for YaRN and LongRoPE.
 *
 * Source: `ROPE_INIT_FUNCTIONS` of transformers.
 */
export function ropeAttentionFactor(scaling?: RopeScaling): number {
  if (scaling?.type !== 'yarn' && scaling?.type !== 'longrope') return 1;
  const { factor, attentionFactor } = scaling;
  if (attentionFactor !== undefined) return attentionFactor;
  if (factor <= 1) return 1;
  if (scaling.type === 'longrope') return Math.sqrt(1 + Math.log(factor) / Math.log(scaling.originalContextLength));
  const { mscale = 0, mscaleAllDim = 0 } = scaling;
  const magnitude = (weight: number): number => 0.1 * weight * Math.log(factor) + 1;
  return mscale !== 0 && mscaleAllDim !== 0 ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1);
}

function requireScaling(theta: number, pairs: number, scaling: RopeScaling | undefined): void {
  const numbers = Object.entries({ theta, ...scaling }).filter((entry): entry is [string, number] => {
    return typeof entry[1] === 'number' && !['mscale', 'mscaleAllDim'].includes(entry[0]);
  });
  for (const [name, value] of numbers) {
    requireArgument(
      value > 0 && Number.isFinite(value),
      `ropeInverseFrequencies: '${name}' must be positive; found ${value}.`,
      'Take it from the configuration of the model.',
    );
  }
  if (scaling?.type !== 'longrope') return;
  for (const factors of [scaling.shortFactors, scaling.longFactors]) {
    requireArgument(
      factors.length === pairs && factors.every((factor) => factor > 0),
      `ropeInverseFrequencies: LongRoPE has ${factors.length} divisors for ${pairs} frequencies, or one is not positive.`,
      'Give one positive divisor for each frequency.',
    );
  }
}

/** What becomes of frequency i. */
function scalingOf(
  theta: number,
  rotaryDim: number,
  scaling: RopeScaling | undefined,
): (frequency: number, i: number) => number {
  switch (scaling?.type) {
    case 'linear':
      return (frequency) => frequency / scaling.factor;
    case 'llama3':
      return (frequency) => scaleLlama3(frequency, scaling);
    case 'yarn':
      return yarnOf(theta, rotaryDim, scaling);
    case 'longrope': {
      const long = scaling.contextLength > scaling.originalContextLength;
      const factors = long ? scaling.longFactors : scaling.shortFactors;
      return (frequency, i) => frequency / (factors[i] ?? NaN);
    }
    default:
      return (frequency) => frequency;
  }
}

function scaleLlama3(frequency: number, scaling: Llama3RopeScaling): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextLength } = scaling;
  // Full turns over the original context
  const turns = (originalContextLength * frequency) / (2 * Math.PI);
  if (turns < lowFrequencyFactor) return frequency / factor;
  if (turns > highFrequencyFactor) return frequency;
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

function yarnOf(theta: number, rotaryDim: number, scaling: YarnRopeScaling): (frequency: number, i: number) => number {
  const { factor, originalContextLength, fastTurns = 32, slowTurns = 1, truncate = true } = scaling;
  // The index, not always whole, of the pair that turns so often over the original context
  const indexOf = (turns: number): number =>
    (rotaryDim * Math.log(originalContextLength / (2 * Math.PI * turns))) / (2 * Math.log(theta));
  const [fast, slow] = [indexOf(fastTurns), indexOf(slowTurns)];
  const first = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const last = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1);
  // Where both are one, transformers makes a step of a thousandth.
  const span = first === last ? 0.001 : last - first;
  return (frequency, i) => {
    const stretched = Math.min(Math.max((i - first) / span, 0), 1);
    return (frequency / factor) * stretched + frequency * (1 - stretched);
  };
}

function dynamicBase(theta: number, rotaryDim: number, scaling: DynamicRopeScaling): number {
  const { factor, originalContextLength } = scaling;
  requireArgument(
    rotaryDim > 2,
    'ropeInverseFrequencies: dynamic scaling needs more than one pair.',
    'Leave the scaling out.',
  );
  const grown = Math.max(scaling.contextLength / originalContextLength, 1);
  return theta * (factor * grown - (factor - 1)) ** (rotaryDim / (rotaryDim - 2));
}
