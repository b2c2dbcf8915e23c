import type { SharedBlockSpec } from '../model_spec.ts';
import { attentionWidths } from '../model_spec.ts';
import type { AttentionNames } from './attention.ts';
import { attentionWeights } from './attention.ts';
import type { Part, PartName, WeightSpec } from './tensors.ts';
import { biasOf, matrix, vector } from './tensors.ts';

/** Checkpoint names of a shared block. */
export interface SharedBlockNames {
  readonly attentionNorm: string;
  readonly attention: AttentionNames;
  readonly mlpNorm: string;
  /** Rows of the gate and then of up. */
  readonly gateUp: PartName;
  readonly down: PartName;
}

/** Checkpoint names of an adapter: into the low rank, and out of it. */
export interface AdapterNames {
  readonly down: string;
  readonly up: string;
}

/** Checkpoint names of what one use of a shared block has of its own. */
export interface SharedUseNames {
  /** Adds to gate and up. */
  readonly mlp: AdapterNames;
  /** Add to queries, keys and values. */
  readonly attention?: { readonly query: AdapterNames; readonly key: AdapterNames; readonly value: AdapterNames };
  /** Of the output. */
  readonly projection: string;
}

export function sharedBlockWeights(
  name: string,
  spec: SharedBlockSpec,
  names: SharedBlockNames,
  hiddenSize: number,
): WeightSpec[] {
  const { intermediateSize, bias } = spec.mlp;
  const first: readonly Part[] = [[names.gateUp, 2 * intermediateSize]];
  const last: readonly Part[] = [[names.down, hiddenSize]];
  return [
    vector(`${name}.attentionNorm`, `${names.attentionNorm}.weight`, [2 * hiddenSize]),
    ...attentionWeights(`${name}.attention`, spec.attention, names.attention, 2 * hiddenSize, hiddenSize),
    vector(`${name}.mlpNorm`, `${names.mlpNorm}.weight`, [hiddenSize]),
    // One matrix, as their adapters are: both are one product.
    matrix(`${name}.mlp.gateUp`, first, hiddenSize),
    matrix(`${name}.mlp.down`, last, intermediateSize),
    ...(bias ? [biasOf(`${name}.mlp.gateUpBias`, first), biasOf(`${name}.mlp.downBias`, last)] : []),
  ];
}

export function sharedUseWeights(
  name: string,
  spec: SharedBlockSpec,
  names: SharedUseNames,
  hiddenSize: number,
): WeightSpec[] {
  const { adapterRank: rank, mlp } = spec;
  const { queries, keys } = attentionWidths(spec.attention);
  const exact = (weight: WeightSpec): WeightSpec => ({ ...weight, exact: true });
  const adapters: (readonly [string, AdapterNames, number])[] =
    names.attention === undefined
      ? []
      : [
          ['query', names.attention.query, queries],
          ['key', names.attention.key, keys],
          ['value', names.attention.value, keys],
        ];
  const downs = adapters.map(([, { down }]): Part => [down, rank]);
  return [
    ...(adapters.length === 0 ? [] : [exact(matrix(`${name}.qkvDown`, downs, 2 * hiddenSize))]),
    ...adapters.map(([role, { up }, rows]) => exact(matrix(`${name}.${role}Up`, [[up, rows]], rank))),
    exact(matrix(`${name}.mlpDown`, [[names.mlp.down, rank]], hiddenSize)),
    exact(matrix(`${name}.mlpUp`, [[names.mlp.up, 2 * mlp.intermediateSize]], rank)),
    matrix(`${name}.projection`, [[names.projection, hiddenSize]], hiddenSize),
  ];
}
