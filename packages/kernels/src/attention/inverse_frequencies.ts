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

export interface RopeInverseFrequenciesOptions {
  /** Base of the frequencies, such as 10000 */
  readonly theta: number;
  /** Values of a head that rotate; even */
  readonly rotaryDim: number;
  readonly scaling?: LinearRopeScaling | Llama3RopeScaling;
}

/**
 * `f[i] = theta^(-2 i / rotaryDim)` for i < rotaryDim / 2, in radians per token, then scaled.
 *
 * @returns (rotaryDim / 2), computed in float64 and rounded once
 * @throws ArgumentError if `rotaryDim` is not a positive even number, or `theta` or a factor is not positive
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
  requireArgument(
    theta > 0 && (scaling === undefined || scaling.factor > 0),
    'ropeInverseFrequencies: theta and the factor of a scaling must be positive.',
    'Take them from the configuration of the model.',
  );
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / rotaryDim);
    if (scaling === undefined) return frequency;
    return scaling.type === 'linear' ? frequency / scaling.factor : scaleLlama3(frequency, scaling);
  });
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
