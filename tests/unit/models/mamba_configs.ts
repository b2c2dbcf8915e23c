import type { Config } from './configs.ts';

// Public models of mambas and hybrids of them, as their checkpoints describe them, shortened to what is read.

export const MAMBA: Config = {
  model_type: 'mamba',
  vocab_size: 50280,
  hidden_size: 768,
  num_hidden_layers: 24,
  state_size: 16,
  expand: 2,
  conv_kernel: 4,
  time_step_rank: 48,
  layer_norm_epsilon: 1e-5,
  eos_token_id: 0,
};

export const FALCON_MAMBA: Config = {
  ...MAMBA,
  model_type: 'falcon_mamba',
  vocab_size: 65024,
  hidden_size: 4096,
  num_hidden_layers: 64,
  time_step_rank: 256,
  mixer_rms_eps: 1e-6,
  tie_word_embeddings: false,
  eos_token_id: 11,
};

/** Mamba-2 130M as mamba_ssm stores it. */
export const MAMBA2_SSM: Config = {
  d_model: 768,
  d_intermediate: 0,
  n_layer: 24,
  vocab_size: 50277,
  ssm_cfg: { layer: 'Mamba2' },
  attn_layer_idx: [],
  attn_cfg: {},
  rms_norm: true,
  residual_in_fp32: true,
  fused_add_norm: true,
  pad_vocab_size_multiple: 16,
  tie_embeddings: true,
};

/** Jamba v0.1. */
export const JAMBA: Config = {
  model_type: 'jamba',
  vocab_size: 65536,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  attn_layer_period: 8,
  attn_layer_offset: 4,
  expert_layer_period: 2,
  expert_layer_offset: 1,
  num_experts: 16,
  num_experts_per_tok: 2,
  mamba_d_state: 16,
  mamba_d_conv: 4,
  mamba_expand: 2,
  mamba_dt_rank: 256,
  mamba_conv_bias: true,
  mamba_proj_bias: false,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 262144,
  sliding_window: null,
  tie_word_embeddings: false,
  eos_token_id: 2,
};

/** Bamba 9B. */
export const BAMBA: Config = {
  model_type: 'bamba',
  vocab_size: 128000,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  attn_layer_indices: [9, 18, 27],
  mamba_n_heads: 128,
  mamba_d_head: 64,
  mamba_n_groups: 1,
  mamba_d_state: 128,
  mamba_expand: 2,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 262144,
  tie_word_embeddings: false,
  eos_token_id: 128001,
};

const isAttention = (...layers: readonly number[]): ((_: unknown, index: number) => string) => {
  return (_, index) => (layers.includes(index) ? 'attention' : 'mamba');
};

/** Granite 4.0 H 350M. */
export const GRANITE: Config = {
  model_type: 'granitemoehybrid',
  vocab_size: 100352,
  hidden_size: 768,
  intermediate_size: 2048,
  shared_intermediate_size: 2048,
  num_hidden_layers: 32,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  layer_types: Array.from({ length: 32 }, isAttention(10, 13, 17, 27)),
  mamba_n_heads: 48,
  mamba_d_head: 32,
  mamba_n_groups: 1,
  mamba_d_state: 128,
  mamba_expand: 2,
  num_local_experts: 0,
  num_experts_per_tok: 0,
  position_embedding_type: 'nope',
  embedding_multiplier: 12,
  residual_multiplier: 0.246,
  attention_multiplier: 0.015625,
  logits_scaling: 3,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 32768,
  tie_word_embeddings: true,
  eos_token_id: 100257,
};

/** The sizes of Granite 4.0 H Tiny. */
export const GRANITE_EXPERTS: Config = {
  ...GRANITE,
  hidden_size: 1536,
  intermediate_size: 512,
  shared_intermediate_size: 1024,
  num_hidden_layers: 40,
  layer_types: Array.from({ length: 40 }, isAttention(5, 15, 25, 35)),
  mamba_d_head: 64,
  num_local_experts: 64,
  num_experts_per_tok: 6,
};

/** Falcon-H1 0.5B. */
export const FALCON_H1: Config = {
  model_type: 'falcon_h1',
  vocab_size: 32784,
  hidden_size: 1024,
  intermediate_size: 2048,
  num_hidden_layers: 36,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 64,
  mamba_d_ssm: 1536,
  mamba_n_heads: 24,
  mamba_d_head: 64,
  mamba_n_groups: 1,
  mamba_d_state: 128,
  mamba_expand: 2,
  mamba_rms_norm: false,
  mamba_norm_before_gate: false,
  embedding_multiplier: 5.65685,
  lm_head_multiplier: 0.0390625,
  key_multiplier: 0.390625,
  attention_in_multiplier: 1,
  attention_out_multiplier: 0.9375,
  ssm_in_multiplier: 1.25,
  ssm_out_multiplier: 0.2357,
  ssm_multipliers: [0.35, 0.25, 0.354, 0.5, 0.3535],
  mlp_multipliers: [0.88388, 0.5859375],
  rope_theta: 1e11,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 16384,
  tie_word_embeddings: false,
  eos_token_id: 11,
};

/** Nemotron 3 Nano 30B-A3B. */
export const NEMOTRON_3: Config = {
  model_type: 'nemotron_h',
  vocab_size: 131072,
  hidden_size: 2688,
  hybrid_override_pattern: 'MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME',
  num_hidden_layers: 52,
  num_attention_heads: 32,
  num_key_value_heads: 2,
  head_dim: 128,
  mamba_num_heads: 64,
  mamba_head_dim: 64,
  ssm_state_size: 128,
  n_groups: 8,
  conv_kernel: 4,
  mlp_hidden_act: 'relu2',
  n_routed_experts: 128,
  num_experts_per_tok: 6,
  moe_intermediate_size: 1856,
  moe_shared_expert_intermediate_size: 3712,
  n_shared_experts: 1,
  n_group: 1,
  topk_group: 1,
  norm_topk_prob: true,
  routed_scaling_factor: 2.5,
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 262144,
  sliding_window: null,
  tie_word_embeddings: false,
  eos_token_id: 2,
};
