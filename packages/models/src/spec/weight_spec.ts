import type { BlockSpec, ModelSpec, NormSpec } from './model_spec.ts';
import type { AttentionNames } from './weights/attention.ts';
import { attentionWeights } from './weights/attention.ts';
import type { GatedDeltaNames } from './weights/gated_delta.ts';
import { gatedDeltaWeights } from './weights/gated_delta.ts';
import type { MambaNames } from './weights/mamba.ts';
import { mambaWeights } from './weights/mamba.ts';
import type { Mamba2Names } from './weights/mamba2.ts';
import { mamba2Weights } from './weights/mamba2.ts';
import type { MlpNames } from './weights/mlp.ts';
import { mlpWeights } from './weights/mlp.ts';
import type { MoeNames } from './weights/moe.ts';
import { moeWeights } from './weights/moe.ts';
import type { SharedBlockNames, SharedUseNames } from './weights/shared_block.ts';
import { sharedBlockWeights, sharedUseWeights } from './weights/shared_block.ts';
import type { ShortConvNames } from './weights/short_conv.ts';
import { shortConvWeights } from './weights/short_conv.ts';
import type { WeightSpec } from './weights/tensors.ts';
import { matrix } from './weights/tensors.ts';

export type { SourceTensor, WeightSpec } from './weights/tensors.ts';

/** Checkpoint names of the tensors of one block. */
export type BlockNames =
  MambaNames | Mamba2Names | AttentionNames | MlpNames | MoeNames | GatedDeltaNames | ShortConvNames;

/** The name of a norm, or two of which a checkpoint has one. */
export type NormNames = string | { readonly name: string; readonly otherwise: string };

/** Checkpoint names of one layer. Names of norms and projections stand without `.weight` and `.bias`. */
export interface LayerNames {
  /** As many as the layer has norms. */
  readonly norms: readonly NormNames[];
  readonly blocks: readonly BlockNames[];
  readonly postNorm?: NormNames;
  /** Of what is its own where the layer uses a shared block. */
  readonly sharedUse?: SharedUseNames;
}

/** Checkpoint names of a model. */
export interface ModelNames {
  readonly embedding: string;
  /** Of the embeddings of positions, where they are learned. */
  readonly positions?: string;
  readonly finalNorm: string;
  readonly head: string;
  readonly layers: readonly LayerNames[];
  readonly sharedBlocks?: readonly SharedBlockNames[];
  /**
   * How names begin in other checkpoints of the family: what stands for a beginning above. The first that leads to the
   * embedding holds, where the names above do not.
   */
  readonly prefixes?: readonly Readonly<Record<string, string>>[];
  /** Tensors that some checkpoints hold and nothing needs. */
  readonly ignored: readonly RegExp[];
}

/** A model and the names of its tensors in checkpoints. */
export interface ParsedModel {
  readonly spec: ModelSpec;
  readonly names: ModelNames;
}

/** Every tensor that a model needs, in the order in which it is used. */
export function weightsOf({ spec, names }: ParsedModel): WeightSpec[] {
  const { hiddenSize, vocabSize, learnedPositions } = spec;
  // Every token passes through them: they keep their digits.
  const table = (name: string, source: string): WeightSpec => ({
    ...matrix(name, [[source, vocabSize]], hiddenSize),
    exact: true,
  });
  return [
    table('embedding', names.embedding),
    ...(learnedPositions === undefined || names.positions === undefined
      ? []
      : [{ ...matrix('positions', [[names.positions, learnedPositions]], hiddenSize), float32: true }]),
    ...(spec.sharedBlocks ?? []).flatMap((block, index) =>
      sharedBlockWeights(
        `shared.${index}`,
        block,
        named(names.sharedBlocks?.[index], `shared block ${index}`),
        hiddenSize,
      ),
    ),
    ...spec.layers.flatMap((_, index) => layerWeights({ spec, names }, index)),
    ...normWeights('finalNorm', spec.finalNorm, names.finalNorm, hiddenSize),
    ...(spec.tiedEmbeddings ? [] : [table('head', names.head)]),
  ];
}

/** Values of all tensors of a checkpoint that a model is made from, each counted once. */
export function parameterCount(model: ParsedModel): number {
  const shapes = new Map(weightsOf(model).flatMap(({ sources }) => sources.map(({ name, shape }) => [name, shape])));
  return [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

function layerWeights({ spec, names }: ParsedModel, index: number): WeightSpec[] {
  const { hiddenSize } = spec;
  const name = `layers.${index}`;
  const { norms, blocks, postNorm, sharedBlock } = named(spec.layers[index], `layer ${index}`);
  const layer = named(names.layers[index], `layer ${index}`);
  const shared = sharedBlock === undefined ? undefined : named(spec.sharedBlocks?.[sharedBlock], 'shared block');
  return [
    ...(shared === undefined
      ? []
      : sharedUseWeights(`${name}.shared`, shared, named(layer.sharedUse, `the shared block of ${name}`), hiddenSize)),
    ...norms.flatMap((norm, at) =>
      normWeights(normName(index, norms.length, at), norm, named(layer.norms[at], `norm ${at} of ${name}`), hiddenSize),
    ),
    ...blocks.flatMap((block, at) =>
      blockWeights(`${name}.${at}`, block, named(layer.blocks[at], `block ${at} of ${name}`), hiddenSize),
    ),
    ...(postNorm === undefined
      ? []
      : normWeights(`${name}.postNorm`, postNorm, named(layer.postNorm, `the post-norm of ${name}`), hiddenSize)),
  ];
}

/** Graph name of a norm of a layer: the only one, or that of a block. */
export function normName(layer: number, norms: number, at: number): string {
  return norms === 1 ? `layers.${layer}.norm` : `layers.${layer}.${at}.norm`;
}

function normWeights(name: string, spec: NormSpec, names: NormNames, width: number): WeightSpec[] {
  const { name: own, otherwise } = typeof names === 'string' ? { name: names, otherwise: undefined } : names;
  const part = (role: string, suffix: string): WeightSpec => ({
    name: role,
    kind: 'vector',
    shape: [width],
    sources: [
      {
        name: `${own}.${suffix}`,
        shape: [width],
        ...(otherwise !== undefined && { otherwise: { name: `${otherwise}.${suffix}`, shape: [width] } }),
      },
    ],
  });
  return [part(name, 'weight'), ...(spec.kind === 'rms' ? [] : [part(`${name}Bias`, 'bias')])];
}

function named<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new RangeError(`The family names no tensors for ${what}.`);
  return value;
}

function blockWeights(name: string, block: BlockSpec, names: BlockNames, hiddenSize: number): WeightSpec[] {
  if (block.kind === 'mamba' && names.kind === 'mamba') return mambaWeights(name, block, names, hiddenSize);
  if (block.kind === 'mamba2' && names.kind === 'mamba2') return mamba2Weights(name, block, names, hiddenSize);
  if (block.kind === 'attention' && names.kind === 'attention')
    return attentionWeights(name, block, names, hiddenSize, hiddenSize);
  if (block.kind === 'mlp' && names.kind === 'mlp') return mlpWeights(name, block, names, hiddenSize);
  if (block.kind === 'moe' && names.kind === 'moe') return moeWeights(name, block, names, hiddenSize);
  if (block.kind === 'gatedDelta' && names.kind === 'gatedDelta')
    return gatedDeltaWeights(name, block, names, hiddenSize);
  if (block.kind === 'shortConv' && names.kind === 'shortConv') return shortConvWeights(name, block, names, hiddenSize);
  throw new RangeError(`The family names ${names.kind} tensors for the ${block.kind} block ${name}.`);
}
