import type { GgufModel } from './gguf_model.ts';
import type { Rules } from './gguf_names.ts';
import type { Architecture } from './gguf_rules.ts';
import {
  attentionRules,
  decoderRules,
  gatedMlpRules,
  graniteFactors,
  mamba2Rules,
  qkNormRules,
  turnedByNeighbours,
} from './gguf_rules.ts';
import { attends, BACKBONE, mamba2Sizes } from './gguf_state_space.ts';

type Config = Readonly<Record<string, unknown>>;

/** Granite 4 or Bamba, which alone turns queries and keys, by the only field that llama.cpp knows them by. */
const granitehybrid: Architecture = {
  config: (model) => (isBamba(model) ? bambaConfig(model) : graniteHybridConfig(model)),
  rules: (model) => ({
    ...decoderRules('model.embed_tokens', isBamba(model) ? 'model.final_layernorm' : 'model.norm'),
    attn_norm: { to: 'model.layers.#.input_layernorm' },
    ffn_norm: { to: `model.layers.#.${isBamba(model) ? 'pre_ff_layernorm' : 'post_attention_layernorm'}` },
    ...attentionRules('model.layers.#.self_attn', turnedByNeighbours(model)),
    ...mamba2Rules('model.layers.#.mamba'),
    ...(isBamba(model) ? gatedMlpRules('model.layers.#.feed_forward') : graniteMlpRules(model)),
  }),
};

const isBamba = ({ fields }: GgufModel): boolean => fields.boolean('rope.scaling.finetuned', false);

function bambaMixer(model: GgufModel): Config {
  const { heads, headDim, groups } = mamba2Sizes(model);
  const attentionLayers = attends(model);
  return {
    layer_types: attentionLayers.map((is) => (is ? 'full_attention' : 'linear_attention')),
    mamba_n_heads: heads,
    mamba_d_head: headDim,
    mamba_n_groups: groups,
    mamba_d_state: model.fields.size('ssm.state_size'),
    mamba_d_conv: model.fields.size('ssm.conv_kernel'),
    mamba_expand: (heads * headDim) / model.hiddenSize,
    mamba_conv_bias: model.has('ssm_conv1d.bias'),
    mamba_proj_bias: model.has('ssm_in.bias'),
  };
}

const bambaConfig = (model: GgufModel): Config => ({ ...model.llama('bamba'), ...bambaMixer(model) });

function graniteHybridConfig(model: GgufModel): Config {
  const experts = model.fields.count('expert_count', 0);
  return {
    ...model.common('granitemoehybrid'),
    ...model.attention(),
    ...bambaMixer(model),
    ...graniteFactors(model),
    position_embedding_type: 'nope',
    rms_norm_eps: model.eps,
    num_local_experts: experts,
    shared_intermediate_size: model.rows(experts > 0 ? 'ffn_up_shexp.weight' : 'ffn_up.weight'),
    intermediate_size: model.rows('ffn_up_exps.weight') ?? model.intermediateSize(),
    ...(experts > 0 && { num_experts_per_tok: model.fields.size('expert_used_count') }),
  };
}

/** Gate and up are one matrix by Hugging Face, also of every expert. Where there are no experts, llama.cpp knows no shared layer. */
function graniteMlpRules(model: GgufModel): Rules {
  const shared = 'model.layers.#.shared_mlp';
  const suffix = model.fields.count('expert_count', 0) > 0 ? '_shexp' : '';
  const experts = 'model.layers.#.block_sparse_moe';
  return {
    [`ffn_gate${suffix}`]: { to: `${shared}.input_linear`, half: 0 },
    [`ffn_up${suffix}`]: { to: `${shared}.input_linear`, half: 1 },
    [`ffn_down${suffix}`]: { to: `${shared}.output_linear` },
    ffn_gate_inp: { to: `${experts}.router.layer` },
    ffn_gate_exps: { to: `${experts}.input_linear`, half: 0 },
    ffn_up_exps: { to: `${experts}.input_linear`, half: 1 },
    ffn_down_exps: { to: `${experts}.output_linear` },
  };
}

/** The kind of a layer follows from which of its sizes are not 0. */
const nemotronH: Architecture = {
  config: (model) => {
    const { fields } = model;
    const { heads, headDim, groups } = mamba2Sizes(model);
    const hasExperts = model.architecture === 'nemotron_h_moe';
    const widths = model.perLayer('feed_forward_length');
    const kinds = attends(model).map((is, index) =>
      is ? 'attention' : (widths[index] ?? 0) === 0 ? 'mamba' : hasExperts ? 'moe' : 'mlp',
    );
    const isTurned = fields.boolean('rope.scaling.finetuned', false);
    if (isTurned) throw fields.error('rope.scaling.finetuned', 'false: Nemotron-H has no positions', isTurned);
    return {
      ...model.common('nemotron_h'),
      ...model.attention(),
      layers_block_type: kinds,
      layer_norm_epsilon: model.eps,
      mamba_num_heads: heads,
      mamba_head_dim: headDim,
      n_groups: groups,
      ssm_state_size: fields.size('ssm.state_size'),
      conv_kernel: fields.size('ssm.conv_kernel'),
      use_conv_bias: model.has('ssm_conv1d.bias'),
      use_bias: model.has('ssm_in.bias'),
      mlp_hidden_act: 'relu2',
      mlp_bias: model.has('ffn_up.bias') || model.has('ffn_up_shexp.bias'),
      ...(kinds.includes('mlp') && { intermediate_size: model.intermediateSize() }),
      ...(kinds.includes('moe') && expertConfig(model)),
    };
  },
  rules: (model) => ({
    ...BACKBONE,
    ...attentionRules('backbone.layers.#.mixer', turnedByNeighbours(model)),
    ...mamba2Rules('backbone.layers.#.mixer'),
    ffn_up: { to: 'backbone.layers.#.mixer.up_proj' },
    ffn_down: { to: 'backbone.layers.#.mixer.down_proj' },
    ffn_gate_inp: { to: 'backbone.layers.#.mixer.gate' },
    exp_probs_b: { to: 'backbone.layers.#.mixer.gate.e_score_correction_bias', isWhole: true },
    ffn_up_exps: { to: 'backbone.layers.#.mixer.experts.%.up_proj', experts: true },
    ffn_down_exps: { to: 'backbone.layers.#.mixer.experts.%.down_proj', experts: true },
    ffn_up_shexp: { to: 'backbone.layers.#.mixer.shared_experts.up_proj' },
    ffn_down_shexp: { to: 'backbone.layers.#.mixer.shared_experts.down_proj' },
    ffn_latent_down: { to: 'backbone.layers.#.mixer.fc1_latent_proj' },
    ffn_latent_up: { to: 'backbone.layers.#.mixer.fc2_latent_proj' },
  }),
  // The family has a head of its own in every model.
  finish: (model, placed) =>
    model.tensors.has('output.weight')
      ? [...placed]
      : placed.flatMap((tensor) =>
          tensor.name === 'backbone.embeddings.weight' ? [tensor, { ...tensor, name: 'lm_head.weight' }] : [tensor],
        ),
};

function expertConfig(model: GgufModel): Config {
  const { fields } = model;
  const latentSize = fields.optionalSize('moe_latent_size');
  return {
    n_routed_experts: fields.size('expert_count'),
    num_experts_per_tok: fields.size('expert_used_count'),
    moe_intermediate_size: fields.size('expert_feed_forward_length'),
    moe_shared_expert_intermediate_size: model.rows('ffn_up_shexp.weight'),
    norm_topk_prob: fields.boolean('expert_weights_norm', false),
    routed_scaling_factor: fields.number('expert_weights_scale', 1),
    n_group: fields.size('expert_group_count', 1),
    topk_group: fields.size('expert_group_used_count', 1),
    ...(latentSize !== undefined && { moe_latent_size: latentSize }),
  };
}

/**
 * Mamba-2 beside attention. All factors are in the weights. A head that is tied cannot have its own: its logits are those
 * of the factor of the embeddings, which changes their scale and not their order.
 */
const falconH1: Architecture = {
  config: (model) => {
    const { layer_types: _, ...mixer } = bambaMixer(model);
    const { heads, headDim } = mamba2Sizes(model);
    return {
      ...model.llama('falcon_h1'),
      ...mixer,
      mamba_d_ssm: heads * headDim,
      mamba_rms_norm: model.has('ssm_norm.weight'),
      // llama.cpp knows no other order.
      mamba_norm_before_gate: false,
      projectors_bias: model.has('ssm_out.bias'),
    };
  },
  rules: () => ({
    ...decoderRules('model.embed_tokens', 'model.final_layernorm'),
    attn_norm: { to: 'model.layers.#.input_layernorm' },
    ffn_norm: { to: 'model.layers.#.pre_ff_layernorm' },
    ...attentionRules('model.layers.#.self_attn'),
    ...mamba2Rules('model.layers.#.mamba'),
    ...gatedMlpRules('model.layers.#.feed_forward'),
  }),
};

/** The norm in front of the head has the name of one behind the embeddings. */
const lfm2: Architecture = {
  config: (model) => ({
    ...model.common('lfm2'),
    ...model.attention(),
    layer_types: attends(model).map((is) => (is ? 'full_attention' : 'conv')),
    norm_eps: model.eps,
    conv_L_cache: model.fields.size('shortconv.l_cache'),
    conv_bias: model.has('shortconv.conv.bias'),
    intermediate_size: model.intermediateSize(),
    block_auto_adjust_ff_dim: false,
    rope_parameters: model.rope(),
  }),
  rules: () => ({
    ...decoderRules('model.embed_tokens', 'model.embedding_norm'),
    token_embd_norm: { to: 'model.embedding_norm' },
    attn_norm: { to: 'model.layers.#.operator_norm' },
    ffn_norm: { to: 'model.layers.#.ffn_norm' },
    ...attentionRules('model.layers.#.self_attn', undefined, 'out_proj'),
    ...qkNormRules('model.layers.#.self_attn.q_layernorm', 'model.layers.#.self_attn.k_layernorm'),
    'shortconv.in_proj': { to: 'model.layers.#.conv.in_proj' },
    'shortconv.conv': { to: 'model.layers.#.conv.conv', form: 'filters' },
    'shortconv.out_proj': { to: 'model.layers.#.conv.out_proj' },
    ...gatedMlpRules('model.layers.#.feed_forward', ['w1', 'w3', 'w2']),
  }),
};

/** Mamba-2 and attention, in turn or side by side, and short convolutions and attention. */
export const HYBRIDS: Readonly<Record<string, Architecture>> = {
  granitehybrid,
  nemotron_h: nemotronH,
  nemotron_h_moe: nemotronH,
  'falcon-h1': falconH1,
  lfm2,
};
