import { allocateHybridLayers } from './spec/allocation.ts';

// The 8B models of 'An Empirical Study of Mamba-based Language Models' (arXiv 2406.07887), as configurations of the
// Hugging Face classes that compute the same. Dimensions: the scripts that were published with the models.

const LAYERS = 56;

/** Sizes that all four have in common. */
const COMMON = { vocab_size: 256_000, hidden_size: 4096, tie_word_embeddings: false } as const;

/** The Mamba-2 mixers: 128 heads of 64 values, states of 128, 8 groups. */
const MAMBA2 = {
  ...COMMON,
  model_type: 'nemotron_h',
  n_groups: 8,
  ssm_state_size: 128,
  mamba_num_heads: 128,
  mamba_head_dim: 64,
  conv_kernel: 4,
  layer_norm_epsilon: 1e-5,
} as const;

/**
 * The four architectures of the paper at its 8B size: configurations for `createRandomModel`, or for the released
 * weights. The context of the hybrid and the Transformer is what was trained last: 128 K and 4 K tokens.
 */
export const paper: {
  /** 56 Mamba layers. It was not released; its state size (128) is that of the paper's Mamba-2. */
  readonly mamba8b: Readonly<Record<string, unknown>>;
  /** 56 Mamba-2 layers. */
  readonly mamba2_8b: Readonly<Record<string, unknown>>;
  /** 32 layers of attention (32 heads, keys and values of each) and squared-ReLU feed-forward. */
  readonly transformer8b: Readonly<Record<string, unknown>>;
  /** 24 Mamba-2, 4 attention (8 key heads, no positions) and 28 feed-forward layers. */
  readonly hybrid8b: Readonly<Record<string, unknown>>;
} = {
  mamba8b: {
    ...COMMON,
    model_type: 'mamba',
    num_hidden_layers: LAYERS,
    state_size: 128,
    expand: 2,
    intermediate_size: 8192,
    time_step_rank: 256,
    conv_kernel: 4,
    use_conv_bias: true,
    use_bias: false,
    hidden_act: 'silu',
    layer_norm_epsilon: 1e-5,
  },
  mamba2_8b: { ...MAMBA2, hybrid_override_pattern: 'M'.repeat(LAYERS) },
  transformer8b: {
    ...COMMON,
    model_type: 'nemotron',
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    head_dim: 128,
    intermediate_size: 16_384,
    hidden_act: 'relu2',
    norm_eps: 1e-5,
    rope_theta: 10_000,
    partial_rotary_factor: 0.5,
    max_position_embeddings: 4096,
  },
  hybrid8b: {
    ...MAMBA2,
    hybrid_override_pattern: allocateHybridLayers(LAYERS, 0.08, 0.5),
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    intermediate_size: 16_384,
    mlp_hidden_act: 'gelu',
    max_position_embeddings: 131_072,
  },
};
