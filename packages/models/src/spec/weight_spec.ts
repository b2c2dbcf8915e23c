import type { AttentionSpec, BlockSpec, Mamba2Spec, MlpSpec, ModelSpec } from './model_spec.ts';
import { mamba2Widths } from './model_spec.ts';

/** One tensor of a checkpoint with the shape that the configuration calls for. */
export interface SourceTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** One tensor on the GPU and what of the checkpoint it is made from. */
export interface WeightSpec {
  /** Name in the graph, such as `layers.3.0.qkv`. */
  readonly name: string;
  /** Matrices are stored in the model's dtype with padded rows, vectors in f32. */
  readonly kind: 'matrix' | 'vector';
  /** (rows, width) for matrices; any shape for vectors. */
  readonly shape: readonly number[];
  /** Concatenated by rows. */
  readonly sources: readonly SourceTensor[];
  /** `negativeExp`: A = -exp(A_log). */
  readonly transform?: 'negativeExp';
}

/** Checkpoint names of the tensors of one block. */
export type BlockNames =
  | {
      readonly kind: 'mamba2';
      readonly inProjection: string;
      readonly conv: string;
      readonly dtBias: string;
      readonly aLog: string;
      readonly dSkip: string;
      readonly norm: string;
      readonly outProjection: string;
    }
  | {
      readonly kind: 'attention';
      readonly query: string;
      readonly key: string;
      readonly value: string;
      readonly output: string;
    }
  | { readonly kind: 'mlp'; readonly gate?: string; readonly up: string; readonly down: string };

/** Checkpoint names of a model. Names of projections stand without `.weight` and `.bias`. */
export interface ModelNames {
  readonly embedding: string;
  readonly finalNorm: string;
  readonly head: string;
  readonly layers: readonly { readonly norm: string; readonly blocks: readonly BlockNames[] }[];
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
  const { hiddenSize, vocabSize } = spec;
  const table = (name: string, source: string): WeightSpec =>
    matrix(name, [[`${source}.weight`, vocabSize]], hiddenSize);
  const weights = [table('embedding', names.embedding)];
  for (const [layer, { blocks }] of spec.layers.entries()) {
    const layerNames = names.layers[layer];
    if (layerNames === undefined) throw new RangeError(`The family names no tensors for layer ${layer}.`);
    weights.push(vector(`layers.${layer}.norm`, `${layerNames.norm}.weight`, [hiddenSize]));
    for (const [index, block] of blocks.entries()) {
      const blockNames = layerNames.blocks[index];
      if (blockNames === undefined)
        throw new RangeError(`The family names no tensors for block ${index} of layer ${layer}.`);
      weights.push(...blockWeights(`layers.${layer}.${index}`, block, blockNames, hiddenSize));
    }
  }
  weights.push(vector('finalNorm', `${names.finalNorm}.weight`, [hiddenSize]));
  if (!spec.tiedEmbeddings) weights.push(table('head', names.head));
  return weights;
}

function blockWeights(name: string, block: BlockSpec, names: BlockNames, hiddenSize: number): WeightSpec[] {
  if (block.kind === 'mamba2' && names.kind === 'mamba2') return mamba2Weights(name, block, names, hiddenSize);
  if (block.kind === 'attention' && names.kind === 'attention') return attentionWeights(name, block, names, hiddenSize);
  if (block.kind === 'mlp' && names.kind === 'mlp') return mlpWeights(name, block, names, hiddenSize);
  throw new RangeError(`The family names ${names.kind} tensors for the ${block.kind} block ${name}.`);
}

function mamba2Weights(
  name: string,
  spec: Mamba2Spec,
  names: BlockNames & { kind: 'mamba2' },
  hiddenSize: number,
): WeightSpec[] {
  const { inner, conv, projection } = mamba2Widths(spec);
  const heads = [spec.heads];
  return [
    matrix(`${name}.inProjection`, [[`${names.inProjection}.weight`, projection]], hiddenSize),
    ...(spec.projectionBias ? [vector(`${name}.inBias`, `${names.inProjection}.bias`, [projection])] : []),
    // Depthwise: stored as (channels, 1, taps).
    vector(`${name}.convWeight`, `${names.conv}.weight`, [conv, spec.convWidth], [conv, 1, spec.convWidth]),
    ...(spec.convBias ? [vector(`${name}.convBias`, `${names.conv}.bias`, [conv])] : []),
    vector(`${name}.dtBias`, names.dtBias, heads),
    { ...vector(`${name}.A`, names.aLog, heads), transform: 'negativeExp' },
    vector(`${name}.dSkip`, names.dSkip, heads),
    vector(`${name}.gateNorm`, `${names.norm}.weight`, [inner]),
    matrix(`${name}.outProjection`, [[`${names.outProjection}.weight`, hiddenSize]], inner),
    ...(spec.projectionBias ? [vector(`${name}.outBias`, `${names.outProjection}.bias`, [hiddenSize])] : []),
  ];
}

function attentionWeights(
  name: string,
  spec: AttentionSpec,
  names: BlockNames & { kind: 'attention' },
  hiddenSize: number,
): WeightSpec[] {
  const queries = spec.heads * spec.headDim;
  const keys = spec.kvHeads * spec.headDim;
  const parts = [
    [names.query, queries],
    [names.key, keys],
    [names.value, keys],
  ] as const;
  const weights = [
    matrix(
      `${name}.qkv`,
      parts.map(([part, rows]) => [`${part}.weight`, rows] as const),
      hiddenSize,
    ),
    matrix(`${name}.output`, [[`${names.output}.weight`, hiddenSize]], queries),
  ];
  if (!spec.projectionBias) return weights;
  return [
    ...weights,
    {
      name: `${name}.qkvBias`,
      kind: 'vector',
      shape: [queries + 2 * keys],
      sources: parts.map(([part, rows]) => ({ name: `${part}.bias`, shape: [rows] })),
    },
    vector(`${name}.outputBias`, `${names.output}.bias`, [hiddenSize]),
  ];
}

function mlpWeights(
  name: string,
  spec: MlpSpec,
  names: BlockNames & { kind: 'mlp' },
  hiddenSize: number,
): WeightSpec[] {
  const { intermediateSize } = spec;
  const { gate } = names;
  if (spec.gated !== (gate !== undefined))
    throw new RangeError(`The family names no gate for the gated MLP ${name}, or one too many.`);
  return [
    ...(gate === undefined ? [] : [matrix(`${name}.gate`, [[`${gate}.weight`, intermediateSize]], hiddenSize)]),
    matrix(`${name}.up`, [[`${names.up}.weight`, intermediateSize]], hiddenSize),
    matrix(`${name}.down`, [[`${names.down}.weight`, hiddenSize]], intermediateSize),
  ];
}

function matrix(name: string, parts: readonly (readonly [string, number])[], width: number): WeightSpec {
  const rows = parts.reduce((sum, [, count]) => sum + count, 0);
  const sources = parts.map(([source, count]) => ({ name: source, shape: [count, width] }));
  return { name, kind: 'matrix', shape: [rows, width], sources };
}

function vector(
  name: string,
  source: string,
  shape: readonly number[],
  sourceShape: readonly number[] = shape,
): WeightSpec {
  return { name, kind: 'vector', shape, sources: [{ name: source, shape: sourceShape }] };
}
