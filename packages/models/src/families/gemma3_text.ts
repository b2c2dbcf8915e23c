import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import { readRotary } from '../spec/rotary.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';
import { readHeads, readWindows } from './transformer.ts';

/** What configurations of Gemma 3 leave out: nested ones hold only what differs from the class's own values. */
const DEFAULTS = {
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
  sliding_window_pattern: 6,
  max_position_embeddings: 131_072,
  eos_token_id: 1,
} as const;

/**
 * Gemma 3, text alone. Norms in front of and behind each block, and of each head of queries and keys, all of whose
 * weights are stored minus 1; embeddings times sqrt(hiddenSize); GeGLU with the tanh form. Most layers see a window and
 * turn with the local base of RoPE; every sixth sees all and turns with the global one, to which alone a scaling belongs.
 * Scores are divided by sqrt(`query_pre_attn_scalar`).
 *
 * The factor of the embeddings keeps its digits. (In bfloat16, the Hugging Face class rounds it, 33.94 to 34 for the 1B
 * model; llama.cpp does not.)
 */
export function parseGemma3Text(config: ConfigReader): ParsedModel {
  return gemma3Text(config, 'gemma3_text');
}

/** The same for a family that holds such a model. */
export function gemma3Text(given: ConfigReader, family: string): ParsedModel {
  const config = given.withDefaults(DEFAULTS);
  // Neither is in any published model; the class computes the one and passes over the other.
  for (const name of ['attn_logit_softcapping', 'final_logit_softcapping']) config.refuse(name, []);
  for (const name of ['use_bidirectional_attention', 'mlp_bias']) config.refuse(name, [false]);
  const { headDim } = readHeads(config);
  const pattern = config.size('sliding_window_pattern');
  const windows = readWindows(config, config.optionalSize('sliding_window'), (layer) => (layer + 1) % pattern !== 0);
  const contextLength = config.size('max_position_embeddings');
  const local = readRotary(config, headDim, {
    contextLength,
    layerType: 'sliding_attention',
    fields: { theta: 'rope_local_base_freq' },
    scaled: false,
  });
  const global = readRotary(config, headDim, { contextLength, layerType: 'full_attention', theta: 1e6 });
  const eps = config.number('rms_norm_eps', 1e-6);
  const scale = config.positive('query_pre_attn_scalar') ** -0.5;
  const { spec, names } = llamaLike(config, family, {
    attention: (attention, index) => ({
      ...attention,
      ...windows[index],
      rotary: windows[index]?.window === undefined ? global : local,
      scale,
      qkNorm: { eps, weightOffset: 1, over: 'head' },
    }),
    mlp: (mlp) => ({ ...mlp, activation: readActivation(config, 'hidden_activation', 'gelu_pytorch_tanh') }),
    attentionNames: (prefix) => ({ queryNorm: `${prefix}.q_norm`, keyNorm: `${prefix}.k_norm` }),
    norm: { weightOffset: 1 },
    norms: {
      attention: 'input_layernorm',
      afterAttention: 'post_attention_layernorm',
      mlp: 'pre_feedforward_layernorm',
      afterMlp: 'post_feedforward_layernorm',
    },
    tiedEmbeddings: true,
  });
  return { spec: { ...spec, embeddingScale: Math.sqrt(spec.hiddenSize) }, names };
}
