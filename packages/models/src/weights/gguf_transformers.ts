import { UnsupportedModelError } from '@mambalab/kernels';
import type { GgufModel } from './gguf_model.ts';
import type { Rules } from './gguf_names.ts';
import { swappedAxes } from './gguf_names.ts';
import type { Architecture } from './gguf_rules.ts';
import {
  attentionRules,
  decoderRules,
  expertRules,
  gatedMlpRules,
  graniteFactors,
  MINUS_ONE,
  qkNormRules,
  turnedByNeighbours,
} from './gguf_rules.ts';

const llamaRules = (model: GgufModel, isTurned: boolean): Rules => ({
  ...decoderRules('model.embed_tokens', 'model.norm'),
  attn_norm: { to: 'model.layers.#.input_layernorm' },
  ffn_norm: { to: 'model.layers.#.post_attention_layernorm' },
  ...attentionRules('model.layers.#.self_attn', isTurned ? turnedByNeighbours(model) : undefined),
  ...gatedMlpRules('model.layers.#.mlp'),
});

const HEAD_NORMS = qkNormRules('model.layers.#.self_attn.q_norm', 'model.layers.#.self_attn.k_norm');

const llama: Architecture = {
  config: (model) => {
    refuseExperts(model);
    return model.llama('llama');
  },
  rules: (model) => llamaRules(model, true),
};

const qwen2: Architecture = {
  config: (model) => ({ ...model.llama('qwen2'), attention_bias: true, use_sliding_window: false }),
  rules: (model) => llamaRules(model, false),
};

const qwen3: Architecture = {
  config: (model) => ({ ...model.llama('qwen3'), use_sliding_window: false }),
  rules: (model) => ({ ...llamaRules(model, false), ...HEAD_NORMS }),
};

/** Layers without experts have a feed-forward layer. llama.cpp divides the weights of those that are taken by their sum. */
const qwen3moe: Architecture = {
  config: (model) => {
    const { fields } = model;
    const { intermediate_size: width, ...llamaFields } = { ...model.llama('qwen3_moe') };
    const experts = model.rows('ffn_up_exps.weight');
    const dense = model.layerIndices().filter((index) => !model.tensors.has(`blk.${index}.ffn_up_exps.weight`));
    return {
      ...llamaFields,
      use_sliding_window: false,
      intermediate_size: dense.length > 0 ? width : experts,
      moe_intermediate_size: experts,
      num_experts: fields.size('expert_count'),
      num_experts_per_tok: fields.size('expert_used_count'),
      norm_topk_prob: fields.boolean('expert_weights_norm', true),
      mlp_only_layers: dense,
    };
  },
  rules: (model) => ({
    ...llamaRules(model, false),
    ...HEAD_NORMS,
    ...expertRules('model.layers.#.mlp', 'gate'),
  }),
};

/** Every fourth layer has no positions: what llama.cpp takes for granted, and files do not say. */
const smollm3: Architecture = {
  config: (model) => ({ ...model.llama('smollm3'), no_rope_layer_interval: 4, use_sliding_window: false }),
  rules: (model) => llamaRules(model, true),
};

const granite: Architecture = {
  config: (model) => {
    refuseExperts(model);
    return { ...model.llama('granite'), ...graniteFactors(model) };
  },
  rules: (model) => llamaRules(model, true),
};

/**
 * Five layers with a window and one without in turn, unless the file says otherwise. The 27B model alone divides scores by
 * something else than the square root of a head; llama.cpp knows it by its layers.
 */
const gemma3: Architecture = {
  config: (model) => {
    const { fields, hiddenSize, heads, headDim, layers } = model;
    const { rope_theta: theta, ...scaling } = model.rope(1e6);
    return {
      ...model.llama('gemma3_text'),
      query_pre_attn_scalar: layers === 62 ? hiddenSize / heads : headDim,
      sliding_window: fields.count('attention.sliding_window', 0) || null,
      layer_types: slidingLayers(model).map((slides) => (slides ? 'sliding_attention' : 'full_attention')),
      rope_parameters: {
        full_attention: { rope_theta: theta, ...scaling },
        sliding_attention: { rope_type: 'default', rope_theta: fields.number('rope.freq_base_swa', 10_000) },
      },
      attn_logit_softcapping: fields.optionalNumber('attn_logit_softcapping') ?? null,
      final_logit_softcapping: fields.optionalNumber('final_logit_softcapping') ?? null,
    };
  },
  rules: () => ({
    ...decoderRules('model.embed_tokens', 'model.norm'),
    output_norm: { to: 'model.norm', ...MINUS_ONE },
    ...attentionRules('model.layers.#.self_attn'),
    ...qkNormRules('model.layers.#.self_attn.q_norm', 'model.layers.#.self_attn.k_norm', MINUS_ONE.shift),
    ...gatedMlpRules('model.layers.#.mlp'),
    attn_norm: { to: 'model.layers.#.input_layernorm', ...MINUS_ONE },
    post_attention_norm: { to: 'model.layers.#.post_attention_layernorm', ...MINUS_ONE },
    ffn_norm: { to: 'model.layers.#.pre_feedforward_layernorm', ...MINUS_ONE },
    post_ffw_norm: { to: 'model.layers.#.post_feedforward_layernorm', ...MINUS_ONE },
  }),
};

function slidingLayers({ fields, layers }: GgufModel): readonly boolean[] {
  const key = 'attention.sliding_window_pattern';
  const indices = Array.from({ length: layers }, (_, index) => index);
  if (fields.count('attention.sliding_window', 0) === 0) return indices.map(() => false);
  const listed = fields.isList(key) ? fields.booleans(key) : undefined;
  if (listed !== undefined && listed.length < layers) throw fields.error(key, `${layers} values`, listed.length);
  const period = listed === undefined ? fields.size(key, 6) : 1;
  return indices.map((index) => listed?.[index] ?? (index + 1) % period !== 0);
}

/** LayerNorm-1P and squared ReLU. */
const nemotron: Architecture = {
  config: (model) => ({
    ...model.llama('nemotron'),
    norm_eps: model.fields.number('attention.layer_norm_epsilon'),
    hidden_act: 'relu2',
  }),
  rules: (model) => ({
    ...llamaRules(model, false),
    output_norm: { to: 'model.norm', ...MINUS_ONE },
    attn_norm: { to: 'model.layers.#.input_layernorm', ...MINUS_ONE },
    ffn_norm: { to: 'model.layers.#.post_attention_layernorm', ...MINUS_ONE },
  }),
};

/** Matrices are stored as (outputs, inputs), the other way round than by Hugging Face. */
const gpt2: Architecture = {
  config: (model) => ({
    ...model.common('gpt2'),
    n_embd: model.hiddenSize,
    n_head: model.heads,
    n_layer: model.layers,
    n_inner: model.intermediateSize(),
    n_positions: model.fields.size('context_length'),
    layer_norm_epsilon: model.eps,
  }),
  rules: () => ({
    ...decoderRules('transformer.wte', 'transformer.ln_f'),
    position_embd: { to: 'transformer.wpe' },
    attn_norm: { to: 'transformer.h.#.ln_1' },
    ffn_norm: { to: 'transformer.h.#.ln_2' },
    attn_qkv: { to: 'transformer.h.#.attn.c_attn', transposed: true },
    attn_output: { to: 'transformer.h.#.attn.c_proj', transposed: true },
    ffn_up: { to: 'transformer.h.#.mlp.c_fc', transposed: true },
    ffn_down: { to: 'transformer.h.#.mlp.c_proj', transposed: true },
  }),
};

/** Queries, keys and values of all heads follow each other, where Hugging Face has those of each head in turn. */
const gptneox: Architecture = {
  config: (model) => ({
    ...model.common('gpt_neox'),
    ...model.attention(),
    attention_bias: model.has('attn_qkv.bias'),
    intermediate_size: model.intermediateSize(),
    layer_norm_eps: model.eps,
    use_parallel_residual: model.fields.boolean('use_parallel_residual', true),
    rope_parameters: model.rope(),
  }),
  rules: ({ heads, headDim }) => ({
    ...decoderRules('gpt_neox.embed_in', 'gpt_neox.final_layer_norm', 'embed_out'),
    attn_norm: { to: 'gpt_neox.layers.#.input_layernorm' },
    ffn_norm: { to: 'gpt_neox.layers.#.post_attention_layernorm' },
    attn_qkv: {
      to: 'gpt_neox.layers.#.attention.query_key_value',
      order: () => swappedAxes(heads, 3, headDim),
    },
    attn_output: { to: 'gpt_neox.layers.#.attention.dense' },
    ffn_up: { to: 'gpt_neox.layers.#.mlp.dense_h_to_4h' },
    ffn_down: { to: 'gpt_neox.layers.#.mlp.dense_4h_to_h' },
  }),
};

function refuseExperts({ file, architecture, fields }: GgufModel): void {
  if (fields.count('expert_count', 0) === 0) return;
  throw new UnsupportedModelError(
    `${file}: models of the architecture '${architecture}' with experts do not run here.`,
    'Use one with a feed-forward layer in their place.',
  );
}

export const TRANSFORMERS: Readonly<Record<string, Architecture>> = {
  llama,
  qwen2,
  qwen3,
  qwen3moe,
  gemma3,
  granite,
  smollm3,
  nemotron,
  gpt2,
  gptneox,
};
