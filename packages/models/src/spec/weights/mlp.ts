import type { MlpSpec } from '../model_spec.ts';
import type { PartName, WeightSpec } from './tensors.ts';
import { biasOf, matrix } from './tensors.ts';

/** Checkpoint names of a feed-forward layer. */
export interface MlpNames {
  readonly kind: 'mlp';
  readonly gate?: PartName;
  readonly up: PartName;
  readonly down: PartName;
}

export function mlpWeights(
  name: string,
  spec: Pick<MlpSpec, 'intermediateSize' | 'gated' | 'bias'>,
  names: Omit<MlpNames, 'kind'>,
  hiddenSize: number,
): WeightSpec[] {
  const { intermediateSize, gated, bias } = spec;
  const { gate, up, down } = names;
  if (gated !== (gate !== undefined))
    throw new RangeError(`The family names no gate for the gated MLP ${name}, or one too many.`);
  const first: (readonly [string, PartName])[] = [...(gate === undefined ? [] : [['gate', gate] as const]), ['up', up]];
  return [
    ...first.map(([role, part]) => matrix(`${name}.${role}`, [[part, intermediateSize]], hiddenSize)),
    matrix(`${name}.down`, [[down, hiddenSize]], intermediateSize),
    ...(bias
      ? [
          ...first.map(([role, part]) => biasOf(`${name}.${role}Bias`, [[part, intermediateSize]])),
          biasOf(`${name}.downBias`, [[down, hiddenSize]]),
        ]
      : []),
  ];
}
