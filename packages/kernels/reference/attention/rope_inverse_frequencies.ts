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

export interface RopeInverseFrequenciesOptions {
  readonly theta: number;
  /** Rotated part of a head; even */
  readonly rotaryDim: number;
  readonly scaling?: Llama3RopeScaling | undefined;
}

function scaleLlama3(frequency: number, scaling: Llama3RopeScaling): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalLength } = scaling;
  const turns = (originalLength * frequency) / (2 * Math.PI); // full rotations over the original context
  if (turns < lowFrequencyFactor) return frequency / factor;
  if (turns > highFrequencyFactor) return frequency;
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return (1 - kept) * (frequency / factor) + kept * frequency;
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
    return scaling === undefined ? frequency : scaleLlama3(frequency, scaling);
  });
}
