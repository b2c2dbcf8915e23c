import type { GgufModel } from './gguf_model.ts';
import type { ColumnOrder, PlacedTensor, TensorRows } from './gguf_tensors.ts';
import type { FoundTensor, RowOrder, Rules } from './gguf_names.ts';
import { allRows, swappedAxes } from './gguf_names.ts';
import type { Architecture } from './gguf_rules.ts';
import { attentionRules, decoderRules, expertRules, gatedMlpRules, MINUS_ONE, qkNormRules } from './gguf_rules.ts';

type Config = Readonly<Record<string, unknown>>;

/** Sizes of a gated delta net, under the names that llama.cpp has for those of Mamba's mixers. */
interface DeltaSizes {
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Value heads that share a key head. */
  readonly shared: number;
}

function deltaSizes({ fields }: GgufModel): DeltaSizes {
  const [keyHeads, valueHeads] = [fields.size('ssm.group_count'), fields.size('ssm.time_step_rank')];
  const inner = fields.size('ssm.inner_size');
  if (inner % valueHeads !== 0) throw fields.error('ssm.time_step_rank', `a divisor of ${inner}`, valueHeads);
  if (valueHeads % keyHeads !== 0) throw fields.error('ssm.group_count', `a divisor of ${valueHeads}`, keyHeads);
  const keyDim = fields.size('ssm.state_size');
  return { keyHeads, valueHeads, keyDim, valueDim: inner / valueHeads, shared: valueHeads / keyHeads };
}

function deltaConfig(model: GgufModel, modelType: string): Config {
  const { keyHeads, valueHeads, keyDim, valueDim } = deltaSizes(model);
  const interval = model.fields.size('full_attention_interval', 4);
  return {
    ...model.common(modelType),
    ...model.attention(),
    layer_types: model
      .layerIndices()
      .map((index) => ((index + 1) % interval === 0 ? 'full_attention' : 'linear_attention')),
    rms_norm_eps: model.eps,
    rope_parameters: model.rope(),
    linear_num_key_heads: keyHeads,
    linear_num_value_heads: valueHeads,
    linear_key_head_dim: keyDim,
    linear_value_head_dim: valueDim,
    linear_conv_kernel_dim: model.fields.size('ssm.conv_kernel'),
  };
}

/** All norms but those of the delta nets' heads are stored with the 1 that Hugging Face adds when it computes. */
const commonRules = (isTiled: boolean, sizes: DeltaSizes): Rules => {
  const { valueDim } = sizes;
  const heads = isTiled ? { order: tiledHeads(sizes, 1) } : {};
  return {
    ...decoderRules('model.embed_tokens', 'model.norm'),
    output_norm: { to: 'model.norm', ...MINUS_ONE },
    attn_norm: { to: 'model.layers.#.input_layernorm', ...MINUS_ONE },
    post_attention_norm: { to: 'model.layers.#.post_attention_layernorm', ...MINUS_ONE },
    ...attentionRules('model.layers.#.self_attn'),
    ...qkNormRules('model.layers.#.self_attn.q_norm', 'model.layers.#.self_attn.k_norm', MINUS_ONE.shift),
    ssm_a: { to: 'model.layers.#.linear_attn.A_log', isWhole: true, transformed: true, ...heads },
    ssm_dt: { to: 'model.layers.#.linear_attn.dt_bias', isWhole: true, ...heads },
    ssm_conv1d: {
      to: 'model.layers.#.linear_attn.conv1d',
      form: 'filters',
      ...(isTiled && { order: tiledBehindKeys(sizes) }),
    },
    ssm_norm: { to: 'model.layers.#.linear_attn.norm' },
    ssm_out: {
      to: 'model.layers.#.linear_attn.out_proj',
      ...(isTiled && { columns: tiledColumns(sizes, valueDim) }),
    },
  };
};

const expertLayerRules: Rules = {
  ...expertRules('model.layers.#.mlp', 'gate'),
  ffn_gate_inp_shexp: { to: 'model.layers.#.mlp.shared_expert_gate', form: 'row' },
  ffn_gate_shexp: { to: 'model.layers.#.mlp.shared_expert.gate_proj' },
  ffn_up_shexp: { to: 'model.layers.#.mlp.shared_expert.up_proj' },
  ffn_down_shexp: { to: 'model.layers.#.mlp.shared_expert.down_proj' },
};

const expertConfig = (model: GgufModel): Config => ({
  num_experts: model.fields.size('expert_count'),
  num_experts_per_tok: model.fields.size('expert_used_count'),
  moe_intermediate_size: model.rows('ffn_up_exps.weight'),
  shared_expert_intermediate_size: model.rows('ffn_up_shexp.weight'),
});

/** Hugging Face has q, k, v and z of each key head in turn; llama.cpp q, k and v of all heads in one tensor, z in another. */
const qwen3next: Architecture = {
  config: (model) => ({
    ...deltaConfig(model, 'qwen3_next'),
    ...expertConfig(model),
    intermediate_size: model.rows('ffn_up_exps.weight'),
    norm_topk_prob: true,
  }),
  rules: (model) => ({
    ...commonRules(false, deltaSizes(model)),
    ...expertLayerRules,
    // Of older conversions, which left it as it was.
    ssm_in: { to: 'model.layers.#.linear_attn.in_proj_qkvz' },
    ssm_ba: { to: 'model.layers.#.linear_attn.in_proj_ba' },
  }),
  finish: (model, placed) => {
    const layers = model.layerIndices().flatMap((index): PlacedTensor[] => {
      const qkv = model.tensors.get(`blk.${index}.attn_qkv.weight`);
      const z = model.tensors.get(`blk.${index}.attn_gate.weight`);
      if (qkv === undefined || z === undefined) return [];
      return [joinByHead(`model.layers.${index}.linear_attn.in_proj_qkvz.weight`, qkv, z, deltaSizes(model))];
    });
    const joined = /^blk\.\d+\.attn_(?:qkv|gate)\.weight$/;
    return [...placed.filter(({ name }) => !joined.test(name) || layers.length === 0), ...layers];
  },
};

function joinByHead(name: string, qkv: FoundTensor, z: FoundTensor, sizes: DeltaSizes): PlacedTensor {
  const { keyHeads, keyDim, valueDim, shared } = sizes;
  const [keys, width] = [keyHeads * keyDim, shared * valueDim];
  const rows = (tensor: FoundTensor, first: number, count: number): TensorRows => ({
    ...allRows(tensor),
    first,
    count,
  });
  const parts = Array.from({ length: keyHeads }, (_, head) => [
    rows(qkv, head * keyDim, keyDim),
    rows(qkv, keys + head * keyDim, keyDim),
    rows(qkv, 2 * keys + head * width, width),
    rows(z, head * width, width),
  ]);
  return { name, shape: [2 * keyHeads * (keyDim + width), qkv.shape[1] ?? 1], parts: parts.flat() };
}

/** Value heads that share a key head stand apart, so that llama.cpp can repeat keys as a whole. */
const qwen35: Architecture = {
  config: (model) => ({
    ...deltaConfig(model, 'qwen3_5_text'),
    ...(hasExperts(model)
      ? expertConfig(model)
      : { intermediate_size: model.intermediateSize(), mlp_bias: model.has('ffn_up.bias') }),
    ...(hasExperts(model) && { model_type: 'qwen3_5_moe_text' }),
  }),
  rules: (model) => {
    const sizes = deltaSizes(model);
    return {
      ...commonRules(true, sizes),
      ...(hasExperts(model) ? expertLayerRules : gatedMlpRules('model.layers.#.mlp')),
      attn_qkv: { to: 'model.layers.#.linear_attn.in_proj_qkv', order: tiledBehindKeys(sizes) },
      attn_gate: { to: 'model.layers.#.linear_attn.in_proj_z', order: tiledHeads(sizes, sizes.valueDim) },
      ssm_beta: { to: 'model.layers.#.linear_attn.in_proj_b', order: tiledHeads(sizes, 1) },
      ssm_alpha: { to: 'model.layers.#.linear_attn.in_proj_a', order: tiledHeads(sizes, 1) },
    };
  },
};

const hasExperts = ({ architecture }: GgufModel): boolean => architecture === 'qwen35moe';

/** Rows of value heads of `size` rows: by key head, where the first of every key head are stored first. */
const tiledHeads =
  ({ keyHeads, shared }: DeltaSizes, size: number): RowOrder =>
  () =>
    swappedAxes(keyHeads, shared, size);

/** The same behind the rows of q and k. */
const tiledBehindKeys =
  (sizes: DeltaSizes): RowOrder =>
  () => {
    const keys = 2 * sizes.keyHeads * sizes.keyDim;
    const values = swappedAxes(sizes.keyHeads, sizes.shared, sizes.valueDim);
    return (place) => (place < keys ? place : keys + values(place - keys));
  };

const tiledColumns = ({ keyHeads, shared }: DeltaSizes, width: number): ColumnOrder => ({
  width,
  order: swappedAxes(keyHeads, shared, 1),
});

/** Hybrids of gated delta nets and attention. */
export const DELTA_NETS: Readonly<Record<string, Architecture>> = { qwen3next, qwen35, qwen35moe: qwen35 };
