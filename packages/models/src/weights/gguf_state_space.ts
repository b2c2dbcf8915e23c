import { UnsupportedModelError } from '@mambalab/kernels';
import type { GgufModel } from './gguf_model.ts';
import type { Rules } from './gguf_names.ts';
import type { Architecture } from './gguf_rules.ts';
import { attentionRules, decoderRules, expertRules, gatedMlpRules, mamba2Rules, mambaRules } from './gguf_rules.ts';

type Config = Readonly<Record<string, unknown>>;

export const BACKBONE: Rules = {
  ...decoderRules('backbone.embeddings', 'backbone.norm_f'),
  attn_norm: { to: 'backbone.layers.#.norm' },
};

/** Falcon-Mamba has a flag for its norms of dt, B and C, but no eps: that of its class is taken. */
const mamba: Architecture = {
  config: (model) => {
    const { fields, hiddenSize } = model;
    const isFalcon = fields.boolean('ssm.dt_b_c_rms', false);
    return {
      ...model.common(isFalcon ? 'falcon_mamba' : 'mamba'),
      expand: fields.size('ssm.inner_size') / hiddenSize,
      state_size: fields.size('ssm.state_size'),
      time_step_rank: fields.size('ssm.time_step_rank'),
      conv_kernel: fields.size('ssm.conv_kernel'),
      use_conv_bias: model.has('ssm_conv1d.bias'),
      use_bias: model.has('ssm_in.bias'),
      layer_norm_epsilon: model.eps,
      ...(isFalcon && { mixer_rms_eps: 1e-6 }),
    };
  },
  rules: () => ({ ...BACKBONE, ...mambaRules('backbone.layers.#.mixer') }),
};

/** Sizes of a Mamba-2 mixer; what llama.cpp calls the rank of dt is the number of heads. */
export function mamba2Sizes({ fields }: GgufModel): {
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
} {
  const heads = fields.size('ssm.time_step_rank');
  const inner = fields.size('ssm.inner_size');
  if (inner % heads !== 0) throw fields.error('ssm.time_step_rank', `a divisor of 'ssm.inner_size' (${inner})`, heads);
  return { heads, headDim: inner / heads, groups: fields.size('ssm.group_count', 1) };
}

/**
 * With several groups, llama.cpp has a gated norm for each, as mamba_ssm, which trained such models. Hugging Face's class
 * has one of all channels: the configuration is then one of mamba_ssm.
 */
const mamba2: Architecture = {
  config: (model) => (mamba2Sizes(model).groups > 1 ? mambaSsmConfig(model) : mamba2Config(model)),
  rules: () => ({ ...BACKBONE, ...mamba2Rules('backbone.layers.#.mixer') }),
};

function mamba2Config(model: GgufModel): Config {
  const { heads, headDim, groups } = mamba2Sizes(model);
  return {
    ...model.common('mamba2'),
    num_heads: heads,
    head_dim: headDim,
    n_groups: groups,
    state_size: model.fields.size('ssm.state_size'),
    conv_kernel: model.fields.size('ssm.conv_kernel'),
    expand: (heads * headDim) / model.hiddenSize,
    use_conv_bias: model.has('ssm_conv1d.bias'),
    use_bias: model.has('ssm_in.bias'),
    layer_norm_epsilon: model.eps,
  };
}

function mambaSsmConfig(model: GgufModel): Config {
  const { headDim, groups } = mamba2Sizes(model);
  const { model_type: _, vocab_size: vocabSize, ...common } = model.common('mamba2');
  // The package's own number, which its configurations do not hold.
  if (model.eps !== 1e-5) throw model.fields.error('attention.layer_norm_rms_epsilon', '1e-5', model.eps);
  return {
    ...common,
    d_model: model.hiddenSize,
    n_layer: model.layers,
    vocab_size: vocabSize,
    pad_vocab_size_multiple: 1,
    tie_embeddings: common['tie_word_embeddings'],
    rms_norm: true,
    ssm_cfg: {
      layer: 'Mamba2',
      expand: model.fields.size('ssm.inner_size') / model.hiddenSize,
      headdim: headDim,
      ngroups: groups,
      d_state: model.fields.size('ssm.state_size'),
      d_conv: model.fields.size('ssm.conv_kernel'),
      conv_bias: model.has('ssm_conv1d.bias'),
      bias: model.has('ssm_in.bias'),
    },
  };
}

/** Kinds of layers that follow from which of them have keys and values. */
export const attends = (model: GgufModel): readonly boolean[] =>
  model.perLayer('attention.head_count_kv').map((count) => count > 0);

/** Jamba names a period and an offset where files list layers. */
const jamba: Architecture = {
  config: (model) => {
    const { fields, hiddenSize } = model;
    const routes = model.layerIndices().map((index) => model.tensors.has(`blk.${index}.ffn_gate_inp.weight`));
    const experts = routes.includes(true) ? fields.size('expert_count') : 1;
    return {
      ...model.llama('jamba'),
      ...everyPeriod(model, 'attn_layer', attends(model)),
      ...everyPeriod(model, 'expert_layer', routes),
      num_experts: experts,
      num_experts_per_tok: experts > 1 ? fields.size('expert_used_count') : 1,
      mamba_expand: fields.size('ssm.inner_size') / hiddenSize,
      mamba_d_state: fields.size('ssm.state_size'),
      mamba_dt_rank: fields.size('ssm.time_step_rank'),
      mamba_d_conv: fields.size('ssm.conv_kernel'),
      mamba_conv_bias: model.has('ssm_conv1d.bias'),
      mamba_proj_bias: model.has('ssm_in.bias'),
    };
  },
  rules: () => ({
    ...decoderRules('model.embed_tokens', 'model.final_layernorm'),
    attn_norm: { to: 'model.layers.#.input_layernorm' },
    ffn_norm: { to: 'model.layers.#.pre_ff_layernorm' },
    ...attentionRules('model.layers.#.self_attn'),
    ...mambaRules('model.layers.#.mamba'),
    ssm_dt_norm: { to: 'model.layers.#.mamba.dt_layernorm' },
    ssm_b_norm: { to: 'model.layers.#.mamba.b_layernorm' },
    ssm_c_norm: { to: 'model.layers.#.mamba.c_layernorm' },
    ...gatedMlpRules('model.layers.#.feed_forward'),
    ...expertRules('model.layers.#.feed_forward', 'router'),
  }),
};

function everyPeriod({ file, layers }: GgufModel, name: string, chosen: readonly boolean[]): Config {
  const first = chosen.indexOf(true);
  const second = chosen.indexOf(true, first + 1);
  // One that comes once, or never, has a period beyond all layers.
  const period = second < 0 ? layers + 1 : second - first;
  const offset = first < 0 ? layers : first;
  if (chosen.every((is, index) => is === (index % period === offset))) {
    return { [`${name}_period`]: period, [`${name}_offset`]: offset };
  }
  throw new UnsupportedModelError(
    `${file}: layers ${chosen.flatMap((is, index) => (is ? [index] : [])).join(', ')} do not follow a period ('${name}').`,
    'Use a model whose layers are laid out as those of Jamba.',
  );
}

/** Models of Mamba and Mamba-2, and Jamba. */
export const STATE_SPACE: Readonly<Record<string, Architecture>> = { mamba, mamba2, jamba };
