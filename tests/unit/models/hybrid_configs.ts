import type { Config } from './configs.ts';

// Configurations of the hybrid families, with the sizes of released models.

export const LFM2: Config = {
  model_type: 'lfm2',
  vocab_size: 65_536,
  hidden_size: 1024,
  num_hidden_layers: 16,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  block_ff_dim: 6656,
  block_multiple_of: 256,
  full_attn_idxs: [2, 5, 8, 10, 12, 14],
  max_position_embeddings: 128_000,
  eos_token_id: 7,
};

export const OLMO_HYBRID: Config = {
  model_type: 'olmo_hybrid',
  vocab_size: 100_352,
  hidden_size: 3840,
  intermediate_size: 11_008,
  num_hidden_layers: 32,
  num_attention_heads: 30,
  rope_parameters: { rope_theta: null, rope_type: 'default' },
};

const QWEN: Config = {
  vocab_size: 248_320,
  hidden_size: 1024,
  intermediate_size: 3584,
  num_hidden_layers: 24,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 256,
  linear_num_key_heads: 16,
  linear_num_value_heads: 16,
  linear_key_head_dim: 128,
  linear_value_head_dim: 128,
};

export const QWEN3_NEXT: Config = {
  ...QWEN,
  model_type: 'qwen3_next',
  vocab_size: 151_936,
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 48,
  num_attention_heads: 16,
  linear_num_value_heads: 32,
  num_experts: 512,
  num_experts_per_tok: 10,
  moe_intermediate_size: 512,
  shared_expert_intermediate_size: 512,
};

export const QWEN3_5: Config = { ...QWEN, model_type: 'qwen3_5_text', tie_word_embeddings: true };

export const ZAMBA2: Config = {
  model_type: 'zamba2',
  vocab_size: 32_000,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 38,
  hybrid_layer_ids: [5, 11, 17, 23, 29, 35],
  num_attention_heads: 32,
  n_mamba_heads: 64,
  mamba_d_state: 128,
  time_step_min: 0.001,
  use_mem_rope: true,
  use_shared_attention_adapter: true,
};
