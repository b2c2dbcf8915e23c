/** The frequency scaling of Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, blended between. */
export interface Llama3RopeScaling {
  readonly type: 'llama3';
  readonly factor: number;
  /** Wavelengths above originalLength / lowFrequencyFactor are stretched. */
  readonly lowFrequencyFactor: number;
  /** Wavelengths below originalLength / highFrequencyFactor are kept. */
  readonly highFrequencyFactor: number;
  /** Context length, in tokens, before the stretch */
  readonly originalLength: number;
}

/** YaRN: pairs of more than `fastTurns` turns over the original context are kept, of less than `slowTurns` stretched. */
export interface YarnRopeScaling {
  readonly type: 'yarn';
  readonly factor: number;
  readonly originalLength: number;
  /** 32 by default */
  readonly fastTurns?: number | undefined;
  /** 1 by default */
  readonly slowTurns?: number | undefined;
  /** Whether the blend begins and ends at whole pairs; true by default. */
  readonly truncate?: boolean | undefined;
  readonly attentionFactor?: number | undefined;
  readonly mscale?: number | undefined;
  readonly mscaleAllDim?: number | undefined;
}

/** LongRoPE: a divisor for each frequency, of one list for contexts up to the original one, of another beyond. */
export interface LongRopeScaling {
  readonly type: 'longrope';
  readonly factor: number;
  readonly shortFactors: readonly number[];
  readonly longFactors: readonly number[];
  readonly originalLength: number;
  readonly length: number;
  readonly attentionFactor?: number | undefined;
}

/** NTK-aware scaling: another base for contexts beyond the original one. */
export interface DynamicRopeScaling {
  readonly type: 'dynamic';
  readonly factor: number;
  readonly originalLength: number;
  readonly length: number;
}

export type RopeScaling = Llama3RopeScaling | YarnRopeScaling | LongRopeScaling | DynamicRopeScaling;

export interface RopeInverseFrequenciesOptions {
  readonly theta: number;
  /** Rotated part of a head; even */
  readonly rotaryDim: number;
  readonly scaling?: RopeScaling | undefined;
}

function scaleLlama3(frequency: number, scaling: Llama3RopeScaling): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalLength } = scaling;
  const turns = (originalLength * frequency) / (2 * Math.PI); // full rotations over the original context
  if (turns < lowFrequencyFactor) return frequency / factor;
  if (turns > highFrequencyFactor) return frequency;
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

/** The share of pair i that is stretched: 0 up to the pair of `fastTurns`, 1 from the pair of `slowTurns` on. */
function yarnRamp(i: number, theta: number, rotaryDim: number, scaling: YarnRopeScaling): number {
  const { originalLength, fastTurns = 32, slowTurns = 1, truncate = true } = scaling;
  // theta^(-2 j / rotaryDim) originalLength / 2 pi = turns, solved for j
  const pairOf = (turns: number): number =>
    (Math.log(originalLength / (2 * Math.PI * turns)) / Math.log(theta)) * (rotaryDim / 2);
  const low = Math.max(0, truncate ? Math.floor(pairOf(fastTurns)) : pairOf(fastTurns));
  const high = Math.min(rotaryDim - 1, truncate ? Math.ceil(pairOf(slowTurns)) : pairOf(slowTurns));
  return Math.min(1, Math.max(0, (i - low) / (low === high ? 0.001 : high - low)));
}

/**
 * f[i] = theta^(-2i / rotaryDim) for i < rotaryDim / 2, in radians per token, then scaled.
 *
 * Returns (rotaryDim / 2). Source: *RoFormer* (arXiv 2104.09864), equation 15; `ROPE_INIT_FUNCTIONS` of transformers.
 */
export function ropeInverseFrequencies(options: RopeInverseFrequenciesOptions): Float64Array {
  const { theta, rotaryDim, scaling } = options;
  if (rotaryDim % 2 !== 0) throw new RangeError(`rotaryDim must be even, found ${rotaryDim}`);
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / rotaryDim);
    if (scaling === undefined) return frequency;
    if (scaling.type === 'llama3') return scaleLlama3(frequency, scaling);
    if (scaling.type === 'longrope') {
      const factors = scaling.length > scaling.originalLength ? scaling.longFactors : scaling.shortFactors;
      return frequency / (factors[i] ?? NaN);
    }
    const { factor, originalLength } = scaling;
    if (scaling.type === 'dynamic') {
      const stretch = (factor * Math.max(scaling.length, originalLength)) / originalLength - factor + 1;
      return (theta * stretch ** (rotaryDim / (rotaryDim - 2))) ** ((-2 * i) / rotaryDim);
    }
    const ramp = yarnRamp(i, theta, rotaryDim, scaling);
    return frequency * (1 - ramp) + (frequency / factor) * ramp;
  });
}

/** What rotated queries and keys are multiplied with under a scaling; `ROPE_INIT_FUNCTIONS` of transformers. */
export function ropeAttentionFactor(scaling?: RopeScaling): number {
  if (scaling === undefined || scaling.type === 'llama3' || scaling.type === 'dynamic') return 1;
  if (scaling.attentionFactor !== undefined) return scaling.attentionFactor;
  const growth = Math.log(Math.max(scaling.factor, 1));
  if (scaling.type === 'longrope') return Math.sqrt(1 + growth / Math.log(scaling.originalLength));
  const { mscale, mscaleAllDim } = scaling;
  if (mscale === undefined || mscaleAllDim === undefined) return 1 + 0.1 * growth;
  return (1 + 0.1 * mscale * growth) / (1 + 0.1 * mscaleAllDim * growth);
}
