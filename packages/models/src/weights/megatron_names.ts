import { WeightFormatError } from '@mambalab/kernels';
import type { JoinedTensor } from './joined_tensor.ts';
import type { MegatronGpt, MegatronHybrid, MegatronModel } from './megatron_config.ts';
import type { MegatronTensors } from './megatron_ranks.ts';

/**
 * The tensors of a Megatron checkpoint under the names and in the order of Hugging Face's `nemotron_h` and `nemotron`.
 * Nothing is read. Column-parallel matrices are joined by rows, row-parallel ones by columns.
 *
 * Source: Megatron-LM `core/ssm/mamba_mixer.py` and `core/transformer/attention.py` (how tensors are split), and
 * `tools/checkpoint/hybrid_conversion.py`.
 *
 * @throws WeightFormatError naming the tensor if it is missing or its shape is not the one that the model calls for;
 *   UnsupportedModelError naming tensors that have no place in the model
 */
export function megatronTensors(model: MegatronModel, tensors: MegatronTensors): JoinedTensor[] {
  const mapped = model.family === 'nemotron' ? mapGpt(model, tensors) : mapHybrid(model, tensors);
  tensors.checkAllUsed(model.family);
  return mapped;
}

function mapHybrid(model: MegatronHybrid, tensors: MegatronTensors): JoinedTensor[] {
  const norm = (to: string, names: readonly string[]): JoinedTensor =>
    tensors.replicated(to, tensors.spelling(names), [model.hiddenSize]);
  const layers = [...model.pattern].flatMap((kind, layer) => {
    const from = `decoder.layers.${layer}`;
    const to = `backbone.layers.${layer}`;
    const mixer = `${to}.mixer`;
    switch (kind) {
      case 'M':
        return [
          norm(`${to}.norm.weight`, [`${from}.norm.weight`, `${from}.mixer.in_proj.layer_norm_weight`]),
          ...mapMamba(model, tensors, `${from}.mixer`, mixer),
        ];
      case '*':
        return [norm(`${to}.norm.weight`, attentionNorm(from, 'weight')), ...mapAttention(model, tensors, from, mixer)];
      default:
        return [norm(`${to}.norm.weight`, mlpNorm(from, 'weight')), ...mapMlp(model, tensors, from, mixer)];
    }
  });
  return [
    mapVocabulary(model, tensors, 'backbone.embeddings.weight', 'embedding.word_embeddings.weight'),
    ...layers,
    norm(
      'backbone.norm_f.weight',
      FINAL_NORM.map((name) => `${name}.weight`),
    ),
    ...mapHead(model, tensors),
  ];
}

function mapGpt(model: MegatronGpt, tensors: MegatronTensors): JoinedTensor[] {
  const norm = (to: string, names: (part: 'weight' | 'bias') => readonly string[]): JoinedTensor[] =>
    (['weight', 'bias'] as const).map((part) =>
      tensors.replicated(`${to}.${part}`, tensors.spelling(names(part)), [model.hiddenSize]),
    );
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const from = `decoder.layers.${layer}`;
    const to = `model.layers.${layer}`;
    return [
      ...norm(`${to}.input_layernorm`, (part) => attentionNorm(from, part)),
      ...mapAttention(model, tensors, from, `${to}.self_attn`),
      ...norm(`${to}.post_attention_layernorm`, (part) => mlpNorm(from, part)),
      ...mapMlp(model, tensors, from, `${to}.mlp`),
    ];
  });
  return [
    mapVocabulary(model, tensors, 'model.embed_tokens.weight', 'embedding.word_embeddings.weight'),
    ...layers.flat(),
    ...norm('model.norm', (part) => FINAL_NORM.map((name) => `${name}.${part}`)),
    ...mapHead(model, tensors),
  ];
}

/** Each rank holds its own z, x, B, C and dt, one after another, and of the convolution its own x, B and C. */
function mapMamba(model: MegatronHybrid, tensors: MegatronTensors, from: string, to: string): JoinedTensor[] {
  const { mamba, hiddenSize } = model;
  if (mamba === undefined) return [];
  const heads = part(mamba.heads, 'mamba_num_heads', tensors);
  const states = part(mamba.groups, 'mamba_num_groups', tensors) * mamba.stateSize;
  const channels = heads * mamba.headDim;
  const projection = [channels, channels, states, states, heads];
  const convolution = [channels, states, states];
  const convRows = channels + 2 * states;
  return [
    tensors.sections(
      `${to}.in_proj.weight`,
      `${from}.in_proj.weight`,
      [channels + convRows + heads, hiddenSize],
      projection,
    ),
    tensors.sections(`${to}.conv1d.weight`, `${from}.conv1d.weight`, [convRows, 1, mamba.convWidth], convolution),
    tensors.sections(`${to}.conv1d.bias`, `${from}.conv1d.bias`, [convRows], convolution),
    ...['A_log', 'D', 'dt_bias'].map((name) => tensors.rows(`${to}.${name}`, `${from}.${name}`, [heads])),
    tensors.rows(`${to}.norm.weight`, `${from}.norm.weight`, [channels]),
    tensors.columns(`${to}.out_proj.weight`, `${from}.out_proj.weight`, [hiddenSize, channels]),
  ];
}

/** The fused projection holds for every group its queries, its key and its value; a rank holds whole groups. */
function mapAttention(model: MegatronModel, tensors: MegatronTensors, from: string, to: string): JoinedTensor[] {
  const { attention, hiddenSize } = model;
  if (attention === undefined) return [];
  const groups = part(attention.kvHeads, 'num_query_groups', tensors);
  const { headDim } = attention;
  const queries = (attention.heads / attention.kvHeads) * headDim;
  const period = queries + 2 * headDim;
  const qkv = (name: string, first: number, count: number): JoinedTensor =>
    tensors.periodic(
      `${to}.${name}.weight`,
      `${from}.self_attention.linear_qkv.weight`,
      [groups * period, hiddenSize],
      {
        period,
        first,
        count,
      },
    );
  const output = `${from}.self_attention.linear_proj.weight`;
  return [
    qkv('q_proj', 0, queries),
    qkv('k_proj', queries, headDim),
    qkv('v_proj', queries + headDim, headDim),
    tensors.columns(`${to}.o_proj.weight`, output, [hiddenSize, groups * queries]),
  ];
}

function mapMlp(model: MegatronModel, tensors: MegatronTensors, from: string, to: string): JoinedTensor[] {
  const { mlp, hiddenSize } = model;
  if (mlp === undefined) return [];
  const rows = part(mlp.intermediateSize, 'ffn_hidden_size', tensors);
  return [
    tensors.rows(`${to}.up_proj.weight`, `${from}.mlp.linear_fc1.weight`, [rows, hiddenSize]),
    tensors.columns(`${to}.down_proj.weight`, `${from}.mlp.linear_fc2.weight`, [hiddenSize, rows]),
  ];
}

function mapHead(model: MegatronModel, tensors: MegatronTensors): JoinedTensor[] {
  return model.tied ? [] : [mapVocabulary(model, tensors, 'lm_head.weight', 'output_layer.weight')];
}

function mapVocabulary(model: MegatronModel, tensors: MegatronTensors, to: string, from: string): JoinedTensor {
  return tensors.rows(to, from, [part(model.vocabSize, 'padded_vocab_size', tensors), model.hiddenSize]);
}

const FINAL_NORM = ['decoder.final_norm', 'decoder.final_layernorm'] as const;

/** A norm of its own, or one fused into the projection after it. */
function attentionNorm(layer: string, part: 'weight' | 'bias'): readonly string[] {
  return [`${layer}.self_attention.linear_qkv.layer_norm_${part}`, `${layer}.input_layernorm.${part}`];
}

function mlpNorm(layer: string, part: 'weight' | 'bias'): readonly string[] {
  return [`${layer}.mlp.linear_fc1.layer_norm_${part}`, `${layer}.pre_mlp_layernorm.${part}`];
}

/** What one rank has of a size. */
function part(size: number, field: string, tensors: MegatronTensors): number {
  if (size % tensors.size === 0) return size / tensors.size;
  throw new WeightFormatError(
    `'${field}' is ${size}, which ${tensors.size} tensor-parallel ranks cannot share evenly.`,
    'The arguments and the ranks of the checkpoint contradict each other: download or export it again.',
  );
}
