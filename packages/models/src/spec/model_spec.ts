/** Normalisation in front of a layer. */
export interface NormSpec {
  readonly kind: 'rms';
  readonly eps: number;
  /** 1 for checkpoints that store w - 1. */
  readonly weightOffset: 0 | 1;
}

/** A Mamba-2 (SSD) mixer. E = heads * headDim. */
export interface Mamba2Spec {
  readonly kind: 'mamba2';
  readonly heads: number;
  readonly headDim: number;
  /** Groups of heads that share B and C. */
  readonly groups: number;
  readonly stateSize: number;
  readonly convWidth: number;
  readonly convBias: boolean;
  readonly projectionBias: boolean;
  /** Groups of channels of the gated norm: 1 in Mamba-2 itself, `groups` in Nemotron-H and Megatron. */
  readonly normGroups: number;
  readonly normEps: number;
  /** Bounds of dt after softplus. */
  readonly dtLimits: readonly [number, number];
}

/** Change of RoPE's frequencies for longer contexts. */
export type RotaryScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContextLength: number;
    };

/** Rotary position embedding (half-split). */
export interface RotarySpec {
  readonly dim: number;
  readonly theta: number;
  readonly scaling?: RotaryScaling;
}

/** Causal self-attention with grouped keys and values. */
export interface AttentionSpec {
  readonly kind: 'attention';
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Absent for models without positions. */
  readonly rotary?: RotarySpec;
  readonly projectionBias: boolean;
}

/** A feed-forward layer. */
export interface MlpSpec {
  readonly kind: 'mlp';
  readonly intermediateSize: number;
  readonly activation: 'silu' | 'gelu' | 'geluTanh' | 'relu' | 'relu2';
  /** Whether a gate multiplies the activated product (SwiGLU and its kin). */
  readonly gated: boolean;
}

export type BlockSpec = Mamba2Spec | AttentionSpec | MlpSpec;

/** One residual sub-layer: `h = h + sum over blocks of block(norm(h))`. */
export interface LayerSpec {
  readonly norm: NormSpec;
  /** One block, or several that read the same normalised input. */
  readonly blocks: readonly BlockSpec[];
}

/** A language model as data. One graph builder turns it into prefill and decode recordings. */
export interface ModelSpec {
  /** `model_type` of the configuration. */
  readonly family: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: readonly LayerSpec[];
  readonly finalNorm: NormSpec;
  /** Whether the head uses the embedding's matrix. */
  readonly tiedEmbeddings: boolean;
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

/** All blocks of a model with the names of their tensors' owners, `layers.3.0` for the first block of layer 3. */
export function* blocksOf(spec: ModelSpec): Generator<{ readonly name: string; readonly block: BlockSpec }> {
  for (const [layer, { blocks }] of spec.layers.entries()) {
    for (const [index, block] of blocks.entries()) yield { name: `layers.${layer}.${index}`, block };
  }
}
