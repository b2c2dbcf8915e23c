import type { GatedDeltaSpec } from '../model_spec.ts';
import { gatedDeltaWidths } from '../model_spec.ts';
import type { PartName, WeightSpec } from './tensors.ts';
import { biasOf, convFilters, matrix, vector } from './tensors.ts';

/** Checkpoint names of a gated delta net. */
export interface GatedDeltaNames {
  readonly kind: 'gatedDelta';
  readonly query: PartName;
  readonly key: PartName;
  readonly value: PartName;
  readonly z: PartName;
  readonly beta: PartName;
  readonly decay: PartName;
  /** Filters of all of q, k and v, or of each. */
  readonly convs: readonly (readonly [source: string, channels: number])[];
  readonly dtBias: string;
  readonly aLog: string;
  readonly norm: string;
  readonly outProjection: string;
}

export function gatedDeltaWeights(
  name: string,
  spec: GatedDeltaSpec,
  names: GatedDeltaNames,
  hiddenSize: number,
): WeightSpec[] {
  const { keys, values } = gatedDeltaWidths(spec);
  const heads = spec.valueHeads;
  const parts = [
    [names.query, keys],
    [names.key, keys],
    [names.value, values],
    [names.z, values],
    [names.beta, heads],
    [names.decay, heads],
  ] as const;
  return [
    matrix(`${name}.inProjection`, parts, hiddenSize),
    convFilters(`${name}.convWeight`, names.convs, spec.convWidth),
    ...(spec.convBias ? [biasOf(`${name}.convBias`, names.convs)] : []),
    vector(`${name}.dtBias`, names.dtBias, [heads]),
    { ...vector(`${name}.A`, names.aLog, [heads]), transform: 'negativeExp' },
    // The heads share one weight; the kernel has one for every channel.
    {
      name: `${name}.gateNorm`,
      kind: 'vector',
      shape: [values],
      sources: [
        {
          name: `${names.norm}.weight`,
          shape: [spec.valueDim],
          ranges: Array.from({ length: heads }, () => ({ first: 0, count: spec.valueDim })),
        },
      ],
    },
    matrix(`${name}.outProjection`, [[names.outProjection, hiddenSize]], values),
  ];
}
