import type { ShortConvSpec } from '../model_spec.ts';
import type { WeightSpec } from './tensors.ts';
import { biasOf, convFilters, matrix } from './tensors.ts';

/** Checkpoint names of a gated short convolution. */
export interface ShortConvNames {
  readonly kind: 'shortConv';
  /** Rows of B, C and x. */
  readonly inProjection: string;
  readonly conv: string;
  readonly outProjection: string;
}

export function shortConvWeights(
  name: string,
  spec: ShortConvSpec,
  names: ShortConvNames,
  hiddenSize: number,
): WeightSpec[] {
  const bias = (role: string, source: string, rows: number): WeightSpec[] =>
    spec.bias ? [biasOf(`${name}.${role}`, [[source, rows]])] : [];
  return [
    matrix(`${name}.inProjection`, [[names.inProjection, 3 * hiddenSize]], hiddenSize),
    ...bias('inBias', names.inProjection, 3 * hiddenSize),
    convFilters(`${name}.convWeight`, [[names.conv, hiddenSize]], spec.convWidth),
    ...bias('convBias', names.conv, hiddenSize),
    matrix(`${name}.outProjection`, [[names.outProjection, hiddenSize]], hiddenSize),
    ...bias('outBias', names.outProjection, hiddenSize),
  ];
}
