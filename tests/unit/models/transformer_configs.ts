import type { Config } from './configs.ts';

// Configurations of published Transformers, shortened to what is read.

const TOKENS: Config = { bos_token_id: 1, eos_token_id: 2 };

/** Mistral 7B v0.3: no window. */
export const MISTRAL: Config = {
  ...TOKENS,
  model_type: 'mistral',
  vocab_size: 32768,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 1e6,
  max_position_embeddings: 32768,
  sliding_window: null,
};

/** Qwen2.5 0.5B. */
export const QWEN2: Config = {
  ...TOKENS,
  model_type: 'qwen2',
  vocab_size: 151936,
  hidden_size: 896,
  intermediate_size: 4864,
  num_hidden_layers: 24,
  num_attention_heads: 14,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  max_position_embeddings: 32768,
  use_sliding_window: false,
  sliding_window: 32768,
  max_window_layers: 21,
  tie_word_embeddings: true,
};

/** Qwen3 0.6B: heads that are together wider than the model. */
export const QWEN3: Config = {
  ...QWEN2,
  model_type: 'qwen3',
  hidden_size: 1024,
  intermediate_size: 3072,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  attention_bias: false,
  sliding_window: null,
  max_window_layers: 28,
};

/** SmolLM3 3B. */
export const SMOLLM3: Config = {
  model_type: 'smollm3',
  vocab_size: 128256,
  hidden_size: 2048,
  intermediate_size: 11008,
  num_hidden_layers: 36,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  rms_norm_eps: 1e-6,
  rope_theta: 5e6,
  max_position_embeddings: 65536,
  no_rope_layer_interval: 4,
  no_rope_layers: Array.from({ length: 36 }, (_, layer) => (layer % 4 === 3 ? 0 : 1)),
  use_sliding_window: false,
  sliding_window: null,
  eos_token_id: 128012,
};

/** Gemma 3 4B, which sees: its text part holds little more than its size. */
export const GEMMA3: Config = {
  model_type: 'gemma3',
  eos_token_id: [1, 106],
  text_config: {
    model_type: 'gemma3_text',
    hidden_size: 2560,
    intermediate_size: 10240,
    num_hidden_layers: 34,
    rope_scaling: { factor: 8, rope_type: 'linear' },
    sliding_window: 1024,
  },
  vision_config: { hidden_size: 1152 },
};

/** Gemma 3 1B. */
export const GEMMA3_TEXT: Config = {
  model_type: 'gemma3_text',
  vocab_size: 262144,
  hidden_size: 1152,
  intermediate_size: 6912,
  num_hidden_layers: 26,
  num_attention_heads: 4,
  num_key_value_heads: 1,
  head_dim: 256,
  hidden_activation: 'gelu_pytorch_tanh',
  query_pre_attn_scalar: 256,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  rope_local_base_freq: 10000,
  rope_scaling: null,
  sliding_window: 512,
  sliding_window_pattern: 6,
  max_position_embeddings: 32768,
  attn_logit_softcapping: null,
  final_logit_softcapping: null,
  eos_token_id: [1, 106],
};

/** Granite 3.1 2B. */
export const GRANITE3: Config = {
  model_type: 'granite',
  vocab_size: 49155,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 40,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 5e6,
  max_position_embeddings: 131072,
  attention_bias: false,
  mlp_bias: false,
  embedding_multiplier: 12,
  residual_multiplier: 0.22,
  attention_multiplier: 0.015625,
  logits_scaling: 8,
  tie_word_embeddings: true,
  eos_token_id: 0,
};

/** The 8B Transformer of arXiv 2406.07887. */
export const PAPER_TRANSFORMER: Config = {
  model_type: 'nemotron',
  vocab_size: 256000,
  hidden_size: 4096,
  intermediate_size: 16384,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  hidden_act: 'relu2',
  norm_eps: 1e-5,
  partial_rotary_factor: 0.5,
  max_position_embeddings: 4096,
  eos_token_id: 3,
};

/** Pythia 160M. */
export const PYTHIA: Config = {
  model_type: 'gpt_neox',
  vocab_size: 50304,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  hidden_act: 'gelu',
  layer_norm_eps: 1e-5,
  rotary_pct: 0.25,
  rotary_emb_base: 10000,
  max_position_embeddings: 2048,
  use_parallel_residual: true,
  eos_token_id: 0,
};

/** GPT-2. */
export const GPT2: Config = {
  model_type: 'gpt2',
  vocab_size: 50257,
  n_embd: 768,
  n_layer: 12,
  n_head: 12,
  n_positions: 1024,
  n_inner: null,
  activation_function: 'gelu_new',
  layer_norm_epsilon: 1e-5,
  eos_token_id: 50256,
};
