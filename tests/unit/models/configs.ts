// Configurations of the tests, as their checkpoints hold them, shortened to what is read.

/** A config.json. */
export type Config = Readonly<Record<string, unknown>>;

/** Two Llama layers. */
export const LLAMA: Config = {
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 48,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 256,
  rope_theta: 500000,
  eos_token_id: [2, 3],
};

/** Two Mamba-2 layers with a tied head. */
export const MAMBA2: Config = {
  model_type: 'mamba2',
  vocab_size: 64,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_heads: 4,
  head_dim: 8,
  n_groups: 2,
  state_size: 16,
  conv_kernel: 4,
  layer_norm_epsilon: 1e-6,
  time_step_limit: [0, Infinity],
  tie_word_embeddings: true,
  eos_token_id: 0,
};

/** Mamba-2, feed-forward, attention. */
export const NEMOTRON_H: Config = {
  model_type: 'nemotron_h',
  vocab_size: 64,
  hidden_size: 16,
  num_hidden_layers: 3,
  hybrid_override_pattern: 'M-*',
  mamba_num_heads: 4,
  mamba_head_dim: 8,
  n_groups: 2,
  ssm_state_size: 16,
  conv_kernel: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  intermediate_size: 48,
  mlp_hidden_act: 'relu2',
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 256,
  eos_token_id: 1,
};

const PAPER: Config = {
  model_type: 'nemotron_h',
  vocab_size: 256000,
  hidden_size: 4096,
  mamba_num_heads: 128,
  mamba_head_dim: 64,
  ssm_state_size: 128,
  n_groups: 8,
  conv_kernel: 4,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  intermediate_size: 16384,
  mlp_hidden_act: 'gelu',
  max_position_embeddings: 4096,
};

/** The 8B Mamba-2-Hybrid of arXiv 2406.07887: 24 Mamba-2, 4 attention and 28 feed-forward layers. */
export const PAPER_HYBRID: Config = {
  ...PAPER,
  num_hidden_layers: 56,
  hybrid_override_pattern: 'M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-',
};

/** The 8B Mamba-2 of arXiv 2406.07887. */
export const PAPER_MAMBA2: Config = {
  ...PAPER,
  num_hidden_layers: 56,
  hybrid_override_pattern: 'M'.repeat(56),
};

/** A configuration without one of its fields. */
export function without(config: Config, ...names: readonly string[]): Config {
  return Object.fromEntries(Object.entries(config).filter(([name]) => !names.includes(name)));
}
