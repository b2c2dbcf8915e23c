import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec, GatedDeltaSpec, LayerSpec, NormSpec } from '../spec/model_spec.ts';
import { gatedDeltaWidths } from '../spec/model_spec.ts';
import { readRotary } from '../spec/rotary.ts';
import type { LayerNames, NormNames, ParsedModel } from '../spec/weight_spec.ts';
import type { GatedDeltaNames } from '../spec/weights/gated_delta.ts';
import type { MixerKind } from './qwen3_next.ts';
import { MIXER_WORDS } from './qwen3_next.ts';
import {
  attentionNames,
  DECODER_NAMES,
  gatedMlpNames,
  readGatedMlp,
  readHeads,
  readLayerKinds,
  STORED_FREQUENCIES,
} from './transformer.ts';

/** Of the norm of each head's output: fixed, whatever `rms_norm_eps` says. */
const OUTPUT_NORM_EPS = 1e-5;

/**
 * OLMo-Hybrid: gated delta nets with norms in front, and attention with norms behind, whose queries and keys are
 * normalised over all heads together. Attention has positions unless `rope_theta` is null, as in the released models:
 * absent, it is 10000.
 *
 * Checkpoints call the two norms of a delta layer `attention_layer_norm` and `feedforward_layer_norm`, or as Llama does.
 * The norm behind attention has either name of the second, too.
 */
export function parseOlmoHybrid(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  // The convolutions have it as well.
  config.refuse('hidden_act', ['silu', 'swish']);
  config.refuse('linear_use_gate', [true]);
  const hiddenSize = config.size('hidden_size');
  const norm: NormSpec = { kind: 'rms', eps: config.number('rms_norm_eps', 1e-6), weightOffset: 0 };
  const delta = readGatedDelta(config, hiddenSize);
  const attention = readAttention(config, norm.eps);
  const mlp = readGatedMlp(config);
  return {
    spec: {
      family: 'olmo_hybrid',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: kinds.flatMap((kind): LayerSpec[] =>
        kind === 'gatedDelta'
          ? [
              { norms: [norm], blocks: [delta] },
              { norms: [norm], blocks: [mlp] },
            ]
          : [
              { norms: [], blocks: [attention], postNorm: norm },
              { norms: [], blocks: [mlp], postNorm: norm },
            ],
      ),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      contextLength: config.size('max_position_embeddings', 65_536),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      ...DECODER_NAMES,
      layers: kinds.flatMap((kind, index) => layerNames(kind, `model.layers.${index}`, delta)),
      ignored: [STORED_FREQUENCIES],
    },
  };
}

function layerNames(kind: MixerKind, prefix: string, delta: GatedDeltaSpec): LayerNames[] {
  const mlp = gatedMlpNames(`${prefix}.mlp`);
  const second: NormNames = {
    name: `${prefix}.feedforward_layer_norm`,
    otherwise: `${prefix}.post_attention_layernorm`,
  };
  if (kind === 'gatedDelta') {
    const first = { name: `${prefix}.attention_layer_norm`, otherwise: `${prefix}.input_layernorm` };
    return [
      { norms: [first], blocks: [gatedDeltaNames(`${prefix}.linear_attn`, delta)] },
      { norms: [second], blocks: [mlp] },
    ];
  }
  const attention = {
    ...attentionNames(`${prefix}.self_attn`),
    queryNorm: `${prefix}.self_attn.q_norm`,
    keyNorm: `${prefix}.self_attn.k_norm`,
  };
  return [
    { norms: [], blocks: [attention], postNorm: second },
    { norms: [], blocks: [mlp], postNorm: `${prefix}.post_feedforward_layernorm` },
  ];
}

function gatedDeltaNames(prefix: string, spec: GatedDeltaSpec): GatedDeltaNames {
  const { keys, values } = gatedDeltaWidths(spec);
  return {
    kind: 'gatedDelta',
    query: `${prefix}.q_proj`,
    key: `${prefix}.k_proj`,
    value: `${prefix}.v_proj`,
    z: `${prefix}.g_proj`,
    beta: `${prefix}.b_proj`,
    decay: `${prefix}.a_proj`,
    convs: [
      [`${prefix}.q_conv1d`, keys],
      [`${prefix}.k_conv1d`, keys],
      [`${prefix}.v_conv1d`, values],
    ],
    dtBias: `${prefix}.dt_bias`,
    aLog: `${prefix}.A_log`,
    norm: `${prefix}.o_norm`,
    outProjection: `${prefix}.o_proj`,
  };
}

function readGatedDelta(config: ConfigReader, hiddenSize: number): GatedDeltaSpec {
  const heads = config.size('num_attention_heads');
  const keyHeads = config.size('linear_num_key_heads', heads);
  const keyDim = config.size('linear_key_head_dim', Math.trunc((0.75 * hiddenSize) / keyHeads));
  return {
    kind: 'gatedDelta',
    keyHeads,
    valueHeads: config.size('linear_num_value_heads', heads),
    keyDim,
    valueDim: config.size('linear_value_head_dim', 2 * keyDim),
    convWidth: config.size('linear_conv_kernel_dim', 4),
    convBias: false,
    betaFactor: config.boolean('linear_allow_neg_eigval', true) ? 2 : 1,
    normEps: OUTPUT_NORM_EPS,
    gateActivation: 'silu',
  };
}

function readAttention(config: ConfigReader, eps: number): AttentionSpec {
  const heads = readHeads(config);
  const bias = config.boolean('attention_bias', false);
  const parameters = config.object('rope_parameters');
  const withoutPositions =
    parameters.isNull('rope_theta') || (parameters.raw('rope_theta') === undefined && config.isNull('rope_theta'));
  return {
    kind: 'attention',
    ...heads,
    ...(withoutPositions
      ? {}
      : {
          rotary: readRotary(config, heads.headDim, { contextLength: config.optionalSize('max_position_embeddings') }),
        }),
    qkvBias: bias,
    outputBias: bias,
    qkNorm: { eps, weightOffset: 0, over: 'projection' },
  };
}

/** From `layer_types`; without it every fourth layer is attention, and if there are fewer, the last. */
function layerKinds(config: ConfigReader): readonly MixerKind[] {
  const kinds = readLayerKinds(config, 'layer_types', MIXER_WORDS);
  if (kinds !== undefined) return kinds;
  const count = config.size('num_hidden_layers');
  return Array.from({ length: count }, (_, index): MixerKind =>
    index % 4 === 3 || (count < 4 && index === count - 1) ? 'attention' : 'gatedDelta',
  );
}
