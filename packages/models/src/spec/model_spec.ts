import type { ActivationName, RopeScaling } from '@mambalab/kernels';

/** Normalisation of the residual stream. */
export interface NormSpec {
  /** Root mean square; or mean and variance, with a bias. */
  readonly kind: 'rms' | 'layer';
  readonly eps: number;
  /** 1 for checkpoints that store w - 1. */
  readonly weightOffset: 0 | 1;
}

/** What every block has. */
interface BlockBase {
  /** Multiplies what the block adds to the residual stream; 1 when absent. */
  readonly outputScale?: number;
}

/** A Mamba (selective scan) mixer. E = innerSize. */
export interface MambaSpec extends BlockBase {
  readonly kind: 'mamba';
  readonly innerSize: number;
  readonly stateSize: number;
  /** R: width of the projection that dt comes from. */
  readonly dtRank: number;
  readonly convWidth: number;
  readonly convBias: boolean;
  readonly projectionBias: boolean;
  /** Root-mean-square norms of dt (before its projection), B and C; with weights of their own or without any. */
  readonly innerNorm?: { readonly eps: number; readonly weights: boolean };
}

/** A Mamba-2 (SSD) mixer. E = heads * headDim. */
export interface Mamba2Spec extends BlockBase {
  readonly kind: 'mamba2';
  readonly heads: number;
  readonly headDim: number;
  /** Groups of heads that share B and C. */
  readonly groups: number;
  readonly stateSize: number;
  readonly convWidth: number;
  readonly convBias: boolean;
  readonly projectionBias: boolean;
  /** Bias of the output projection, where that of the input does not decide. */
  readonly outputBias?: boolean;
  /** What z does to y: gate and then normalise (Mamba-2), normalise and then gate, or gate alone. */
  readonly gate: 'gateFirst' | 'normFirst' | 'gateOnly';
  /** Groups of channels of the gated norm: 1 in Mamba-2 itself, `groups` in Nemotron-H and Megatron. */
  readonly normGroups: number;
  readonly normEps: number;
  /** Bounds of dt after softplus. */
  readonly dtLimits: readonly [number, number];
}

/** Change of RoPE's frequencies for longer contexts. */
export type RotaryScaling = RopeScaling;

/** Rotary position embedding (half-split). */
export interface RotarySpec {
  readonly dim: number;
  readonly theta: number;
  readonly scaling?: RotaryScaling;
}

/** Causal self-attention with grouped keys and values. */
export interface AttentionSpec extends BlockBase {
  readonly kind: 'attention';
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Absent for models without positions. */
  readonly rotary?: RotarySpec;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  /** Factor of the scores; 1 / sqrt(headDim) when absent. */
  readonly scale?: number;
  /** Keys that a query sees, its own included; all before it when absent. */
  readonly window?: number;
  /** Scores become softCap * tanh(score / softCap). */
  readonly softCap?: number;
  /** Root-mean-square norms of queries and keys, of each head by itself or of all heads together. */
  readonly qkNorm?: { readonly eps: number; readonly weightOffset: 0 | 1; readonly over: 'head' | 'projection' };
  /** The result is multiplied with sigmoid(gate), a second result of the query projection (Qwen3-Next). */
  readonly outputGate?: boolean;
}

/** A feed-forward layer. */
export interface MlpSpec extends BlockBase {
  readonly kind: 'mlp';
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  /** Whether a gate multiplies the activated product (SwiGLU and its kin). */
  readonly gated: boolean;
  readonly bias: boolean;
}

/** A mixture of experts, and what every token takes beside its experts. */
export interface MoeSpec extends BlockBase {
  readonly kind: 'moe';
  readonly experts: number;
  /** Experts of a token. */
  readonly topK: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly gated: boolean;
  readonly scoring: 'softmax' | 'sigmoid';
  readonly order: 'scoreThenTopK' | 'topKThenSoftmax';
  /** Divide the weights of a token by their sum. */
  readonly normalize: boolean;
  /** Added to that sum. */
  readonly normalizeEps?: number;
  /** Multiplies the weights of the experts. */
  readonly routedScale?: number;
  /** Equal parts of the experts, of which `topGroups` are chosen from. */
  readonly groups?: number;
  readonly topGroups?: number;
  /** Whether a bias of each expert is added to its score for the choice alone. */
  readonly correctionBias: boolean;
  /** Width that x is projected to before the experts, and their sum back from; absent where they take x itself. */
  readonly latentSize?: number;
  /** Biases of the projections around the experts and of the shared layer; experts themselves have none. */
  readonly bias?: boolean;
  /** A feed-forward layer of every token, gated by sigmoid(w x) where `gate` says so. */
  readonly shared?: { readonly intermediateSize: number; readonly gate: boolean };
}

/** A gated delta net: Hk key heads of `keyDim`, Hv value heads of `valueDim`. */
export interface GatedDeltaSpec extends BlockBase {
  readonly kind: 'gatedDelta';
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly convWidth: number;
  readonly convBias: boolean;
  /** Multiplies beta: 2 for models that allow negative eigenvalues. */
  readonly betaFactor: number;
  /** Of the norm of each head's output, before its gate. */
  readonly normEps: number;
  readonly gateActivation: 'silu' | 'sigmoid';
}

/** LFM2's gated short convolution. */
export interface ShortConvSpec extends BlockBase {
  readonly kind: 'shortConv';
  readonly convWidth: number;
  /** Of the convolution and of both projections. */
  readonly bias: boolean;
}

export type BlockSpec = MambaSpec | Mamba2Spec | AttentionSpec | MlpSpec | MoeSpec | GatedDeltaSpec | ShortConvSpec;

/**
 * A transformer block that several layers share (Zamba2): attention over the residual stream and the token's embedding
 * side by side, then a feed-forward layer, without residual connections. Each use adds adapters of low rank of its own.
 */
export interface SharedBlockSpec {
  /** Reads 2 * hiddenSize values of each token; its output has hiddenSize. */
  readonly attention: AttentionSpec;
  readonly attentionNorm: NormSpec;
  /** Gated. */
  readonly mlp: MlpSpec;
  readonly mlpNorm: NormSpec;
  readonly adapterRank: number;
  /** Whether queries, keys and values have adapters too; the feed-forward layer always has. */
  readonly attentionAdapters: boolean;
}

/** One residual sub-layer: `h = h + sum over blocks of postNorm(block(norm(h)))`. */
export interface LayerSpec {
  /** In front: none, one that every block reads, or one for each block. */
  readonly norms: readonly NormSpec[];
  /** One block, or several side by side. */
  readonly blocks: readonly BlockSpec[];
  /** Of what a block gives, before it is added. */
  readonly postNorm?: NormSpec;
  /** Index of the shared block whose output, projected, is added to what the norms read, and not to h. */
  readonly sharedBlock?: number;
}

/** A language model as data. One graph builder turns it into prefill and decode recordings. */
export interface ModelSpec {
  /** `model_type` of the configuration. */
  readonly family: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Multiplies the embedding of a token; 1 when absent. */
  readonly embeddingScale?: number;
  /** Learned embeddings of this many positions, added to those of the tokens. */
  readonly learnedPositions?: number;
  readonly layers: readonly LayerSpec[];
  /** Blocks that layers share. */
  readonly sharedBlocks?: readonly SharedBlockSpec[];
  readonly finalNorm: NormSpec;
  /** Whether the head uses the embedding's matrix. */
  readonly tiedEmbeddings: boolean;
  /** Multiplies the logits; 1 when absent. */
  readonly logitScale?: number;
  /** Positions that the model was made for; absent where nothing bounds it. */
  readonly contextLength?: number;
  readonly eosTokens: readonly number[];
}

/** Values of the projection that feeds a Mamba-2 mixer: z, x, B, C, dt side by side. */
export function mamba2Widths(spec: Mamba2Spec): {
  readonly inner: number;
  readonly conv: number;
  readonly projection: number;
} {
  const inner = spec.heads * spec.headDim;
  const conv = inner + 2 * spec.groups * spec.stateSize;
  return { inner, conv, projection: inner + conv + spec.heads };
}

/**
 * What the weights of a Mamba-2 mixer's gated norm, and the bias behind it, are multiplied with. They take the factor of
 * the output: all that is added to the stream passes them, and they are stored in full precision.
 */
export function mamba2NormScale({ gate, outputScale = 1 }: Mamba2Spec): number {
  return gate === 'gateOnly' ? 1 : outputScale;
}

/** Values of the projection that feeds a gated delta net: q, k and v, which are convolved, z, beta and the decay. */
export function gatedDeltaWidths(spec: GatedDeltaSpec): {
  readonly keys: number;
  readonly values: number;
  readonly conv: number;
  readonly projection: number;
} {
  const keys = spec.keyHeads * spec.keyDim;
  const values = spec.valueHeads * spec.valueDim;
  const conv = 2 * keys + values;
  return { keys, values, conv, projection: conv + values + 2 * spec.valueHeads };
}

/** Values of the projection that feeds attention: queries, their gates if there are any, keys and values. */
export function attentionWidths(spec: AttentionSpec): {
  readonly queries: number;
  readonly gates: number;
  readonly keys: number;
  readonly projection: number;
} {
  const queries = spec.heads * spec.headDim;
  const gates = spec.outputGate === true ? queries : 0;
  const keys = spec.kvHeads * spec.headDim;
  return { queries, gates, keys, projection: queries + gates + 2 * keys };
}

/** All blocks of a model with the names of their tensors' owners, `layers.3.0` for the first block of layer 3. */
export function* blocksOf(spec: ModelSpec): Generator<{ readonly name: string; readonly block: BlockSpec }> {
  for (const [layer, { blocks, sharedBlock }] of spec.layers.entries()) {
    const shared = sharedBlock === undefined ? undefined : spec.sharedBlocks?.[sharedBlock];
    // Each use of a shared block remembers keys and values of its own.
    if (shared !== undefined) yield { name: `layers.${layer}.shared`, block: shared.attention };
    for (const [index, block] of blocks.entries()) yield { name: `layers.${layer}.${index}`, block };
  }
}
