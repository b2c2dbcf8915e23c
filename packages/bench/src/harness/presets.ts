import { ArgumentError } from '@mambalab/kernels';
import { paper } from '@mambalab/models';
import { unknownName } from '../near.ts';

/** Shapes of known models as configurations, for measuring with random weights. */
export const PRESETS: Readonly<Record<string, unknown>> = {
  'mamba2-130m': mamba2(24, 768, 24, 50_288),
  'mamba2-1.3b': mamba2(48, 2048, 64, 50_288),
  'mamba2-2.7b': mamba2(64, 2560, 80, 50_288),
  /** Llama 3.2 1B. */
  'llama-1b': {
    model_type: 'llama',
    vocab_size: 128_256,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 64,
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    rope_parameters: {
      rope_type: 'llama3',
      rope_theta: 500_000,
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
  },
  /** The Mamba-2-Hybrid of arXiv 2406.07887, with a vocabulary that fits one binding of every device. */
  'hybrid-8b': {
    model_type: 'nemotron_h',
    vocab_size: 131_072,
    hidden_size: 4096,
    hybrid_override_pattern: 'M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-',
    intermediate_size: 16_384,
    mlp_hidden_act: 'gelu',
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    n_groups: 8,
    ssm_state_size: 128,
    mamba_num_heads: 128,
    mamba_head_dim: 64,
    conv_kernel: 4,
    layer_norm_epsilon: 1e-5,
    max_position_embeddings: 131_072,
  },
  'paper-mamba-8b': paper.mamba8b,
  'paper-mamba2-8b': paper.mamba2_8b,
  'paper-transformer-8b': paper.transformer8b,
  'paper-hybrid-8b': paper.hybrid8b,
};

/** @throws ArgumentError for a name that no preset has */
export function presetNamed(name: string): unknown {
  const config = PRESETS[name];
  if (config !== undefined) return config;
  throw new ArgumentError(unknownName('preset', name, Object.keys(PRESETS)), 'Name one of them.');
}

/** The published Mamba-2 models: heads of 64, state 128, one group, tied embeddings. */
function mamba2(layers: number, hiddenSize: number, heads: number, vocabSize: number): unknown {
  return {
    model_type: 'mamba2',
    vocab_size: vocabSize,
    hidden_size: hiddenSize,
    num_hidden_layers: layers,
    num_heads: heads,
    head_dim: 64,
    n_groups: 1,
    state_size: 128,
    conv_kernel: 4,
    layer_norm_epsilon: 1e-5,
    tie_word_embeddings: true,
  };
}
