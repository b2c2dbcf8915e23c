import { allocateHybridLayers, paper } from '@mambalab/models';
import type { Architecture } from './results.ts';

/** The sizes of one family of four architectures. */
export interface FamilyShape {
  readonly hiddenSize: number;
  /** Sub-layers of the hybrid and of the pure state space models. */
  readonly layers: number;
  readonly headDim: number;
  /** Heads of a Mamba-2 layer have so many values. */
  readonly mambaHeadDim: number;
  readonly stateSize: number;
  /** Groups of B and C, and key heads of the hybrid's attention. */
  readonly groups: number;
  readonly kvHeads: number;
}

/** Widths and depths with the ratios of the paper's 8B models; `800m` is the size of its ablations. */
export const SCALES: Readonly<Record<string, FamilyShape>> = {
  '8b': { hiddenSize: 4096, layers: 56, headDim: 128, mambaHeadDim: 64, stateSize: 128, groups: 8, kvHeads: 8 },
  '3b': { hiddenSize: 2560, layers: 56, headDim: 128, mambaHeadDim: 64, stateSize: 128, groups: 8, kvHeads: 5 },
  '800m': { hiddenSize: 1024, layers: 48, headDim: 64, mambaHeadDim: 64, stateSize: 128, groups: 8, kvHeads: 4 },
  '100m': { hiddenSize: 512, layers: 28, headDim: 64, mambaHeadDim: 64, stateSize: 128, groups: 4, kvHeads: 2 },
  tiny: { hiddenSize: 128, layers: 14, headDim: 32, mambaHeadDim: 32, stateSize: 32, groups: 2, kvHeads: 1 },
};

/** Of the paper's hybrid: about 8 % attention and half feed-forward. */
const ATTENTION_RATIO = 0.08;
const MLP_RATIO = 0.5;
/** Layers of the Transformer, an attention and a feed-forward one each, to sub-layers of the others. */
const TRANSFORMER_LAYERS = 32 / 56;

/** The vocabulary in proportion to the width, so that embeddings take the share that they have in the 8B models. */
export const vocabSizeOf = ({ hiddenSize }: FamilyShape): number => Math.round(62.5 * hiddenSize);

/** A shape with a part of its layers: widths, heads and states stay. */
export const withLayers = (shape: FamilyShape, factor: number): FamilyShape => ({
  ...shape,
  layers: Math.max(7, Math.round(shape.layers * factor)),
});

/** The configuration of one architecture: that of the paper where the shape is its own. */
export function architectureConfig(architecture: Architecture, shape: FamilyShape): Readonly<Record<string, unknown>> {
  const { layers } = shape;
  switch (architecture) {
    case 'mamba':
      return {
        ...paper.mamba8b,
        ...commonSizes(shape),
        num_hidden_layers: layers,
        state_size: shape.stateSize,
        intermediate_size: 2 * shape.hiddenSize,
        time_step_rank: Math.ceil(shape.hiddenSize / 16),
      };
    case 'mamba2':
      return { ...paper.mamba2_8b, ...mamba2Sizes(shape), hybrid_override_pattern: 'M'.repeat(layers) };
    case 'hybrid':
      return hybridConfig(shape, allocateHybridLayers(layers, ATTENTION_RATIO, MLP_RATIO));
    case 'transformer':
    case 'transformer-gqa': {
      const heads = shape.hiddenSize / shape.headDim;
      return {
        ...paper.transformer8b,
        ...commonSizes(shape),
        num_hidden_layers: Math.round(layers * TRANSFORMER_LAYERS),
        num_attention_heads: heads,
        num_key_value_heads: architecture === 'transformer' ? heads : shape.kvHeads,
        head_dim: shape.headDim,
        intermediate_size: 4 * shape.hiddenSize,
      };
    }
  }
}

/** The hybrid with so much of its Mamba-2 layers replaced by attention, from 0 to 1; depth and half of it stay. */
export function ablationConfig(attentionShare: number, shape: FamilyShape): Readonly<Record<string, unknown>> {
  const mixers = shape.layers - Math.round(shape.layers * MLP_RATIO);
  const ratio = Math.round(attentionShare * mixers) / shape.layers;
  return hybridConfig(shape, allocateHybridLayers(shape.layers, ratio, MLP_RATIO));
}

/** Attention of the layers that mix tokens, in per cent. */
export function attentionPercent(pattern: string): number {
  const attention = [...pattern].filter((letter) => letter === '*').length;
  const mixers = [...pattern].filter((letter) => letter !== '-').length;
  return mixers === 0 ? 0 : (100 * attention) / mixers;
}

const commonSizes = (shape: FamilyShape): Readonly<Record<string, unknown>> => ({
  hidden_size: shape.hiddenSize,
  vocab_size: vocabSizeOf(shape),
});

const mamba2Sizes = (shape: FamilyShape): Readonly<Record<string, unknown>> => ({
  ...commonSizes(shape),
  n_groups: shape.groups,
  ssm_state_size: shape.stateSize,
  mamba_num_heads: (2 * shape.hiddenSize) / shape.mambaHeadDim,
  mamba_head_dim: shape.mambaHeadDim,
});

const hybridConfig = (shape: FamilyShape, pattern: string): Readonly<Record<string, unknown>> => ({
  ...paper.hybrid8b,
  ...mamba2Sizes(shape),
  hybrid_override_pattern: pattern,
  num_attention_heads: shape.hiddenSize / shape.headDim,
  num_key_value_heads: shape.kvHeads,
  head_dim: shape.headDim,
  intermediate_size: 4 * shape.hiddenSize,
});
