import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec, GatedDeltaSpec, MlpSpec, MoeSpec, NormSpec } from '../spec/model_spec.ts';
import { attentionWidths, gatedDeltaWidths } from '../spec/model_spec.ts';
import { readRotary } from '../spec/rotary.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import type { GatedDeltaNames } from '../spec/weights/gated_delta.ts';
import type { StoredPart } from '../spec/weights/tensors.ts';
import { everyPeriod } from '../spec/weights/tensors.ts';
import { expertNames, readSharedExperts, readSparseLayers } from './experts.ts';
import {
  attentionNames,
  DECODER_NAMES,
  gatedMlpNames,
  readGatedMlp,
  readHeads,
  readLayerKinds,
  STORED_FREQUENCIES,
} from './transformer.ts';

/** What mixes the tokens of a layer. */
export type MixerKind = 'gatedDelta' | 'attention';

/** Words of `layer_types`. */
export const MIXER_WORDS: Readonly<Record<string, MixerKind>> = {
  linear_attention: 'gatedDelta',
  full_attention: 'attention',
};

/** Layers that predict further tokens: they serve speculation, and the model is complete without them. */
const PREDICTION_LAYERS: RegExp = /^mtp\./;

/**
 * Qwen3-Next: three gated delta nets and one attention layer in turn, each with experts or a feed-forward layer behind it.
 * All norms but those of the delta nets' heads store w - 1. A quarter of each attention head turns, after its norm, and
 * the result is gated.
 *
 * Two projections of a delta net are stored by key head: of each head q, k, v and z, and of each head beta and decay. The
 * query projection of attention is stored by head, queries and then gates.
 */
export function parseQwen3Next(config: ConfigReader): ParsedModel {
  const mlp = readGatedMlp(config);
  const moe = readSharedExperts(config, config.boolean('norm_topk_prob', true));
  const isSparse = readSparseLayers(config);
  return qwenHybrid(config, config, {
    mixerNames: interleavedDeltaNames,
    feedForward: (index) => (moe === undefined || !isSparse(index) ? mlp : moe),
  });
}

/** What tells the models of this line apart. */
export interface QwenHybrid {
  /** Where the projections of a delta net are stored. */
  readonly mixerNames: (prefix: string, spec: GatedDeltaSpec, hiddenSize: number) => GatedDeltaNames;
  readonly feedForward: (index: number) => MlpSpec | MoeSpec;
}

/**
 * @param whole the configuration
 * @param config the part of it that describes the language model
 */
export function qwenHybrid(whole: ConfigReader, config: ConfigReader, hybrid: QwenHybrid): ParsedModel {
  const kinds = layerKinds(config);
  // The convolutions have it as well.
  config.refuse('hidden_act', ['silu', 'swish']);
  const hiddenSize = config.size('hidden_size');
  const eps = config.number('rms_norm_eps', 1e-6);
  const norm: NormSpec = { kind: 'rms', eps, weightOffset: 1 };
  const delta = readGatedDelta(config, eps);
  const attention = readAttention(config, eps);
  return {
    spec: {
      family: whole.string('model_type'),
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: kinds.flatMap((kind, index) => [
        { norms: [norm], blocks: [kind === 'gatedDelta' ? delta : attention] },
        { norms: [norm], blocks: [hybrid.feedForward(index)] },
      ]),
      finalNorm: norm,
      tiedEmbeddings: whole.boolean('tie_word_embeddings', config.boolean('tie_word_embeddings', false)),
      contextLength: config.size('max_position_embeddings', 32_768),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      ...DECODER_NAMES,
      layers: kinds.flatMap((kind, index): LayerNames[] => {
        const prefix = `model.layers.${index}`;
        const mixer =
          kind === 'gatedDelta'
            ? hybrid.mixerNames(`${prefix}.linear_attn`, delta, hiddenSize)
            : gatedAttentionNames(`${prefix}.self_attn`, attention, hiddenSize);
        const block = hybrid.feedForward(index);
        return [
          { norms: [`${prefix}.input_layernorm`], blocks: [mixer] },
          {
            norms: [`${prefix}.post_attention_layernorm`],
            blocks: [
              block.kind === 'moe' ? expertNames(`${prefix}.mlp`, block, hiddenSize) : gatedMlpNames(`${prefix}.mlp`),
            ],
          },
        ];
      }),
      ignored: [STORED_FREQUENCIES, PREDICTION_LAYERS],
    },
  };
}

/** From `layer_types`; without it every `full_attention_interval`-th layer is attention. */
function layerKinds(config: ConfigReader): readonly MixerKind[] {
  const kinds = readLayerKinds(config, 'layer_types', MIXER_WORDS);
  if (kinds !== undefined) return kinds;
  const interval = config.size('full_attention_interval', 4);
  return Array.from({ length: config.size('num_hidden_layers') }, (_, index): MixerKind =>
    (index + 1) % interval === 0 ? 'attention' : 'gatedDelta',
  );
}

function readGatedDelta(config: ConfigReader, eps: number): GatedDeltaSpec {
  return {
    kind: 'gatedDelta',
    keyHeads: config.size('linear_num_key_heads'),
    valueHeads: config.size('linear_num_value_heads'),
    keyDim: config.size('linear_key_head_dim'),
    valueDim: config.size('linear_value_head_dim'),
    convWidth: config.size('linear_conv_kernel_dim', 4),
    convBias: false,
    betaFactor: 1,
    normEps: eps,
    gateActivation: 'silu',
  };
}

function readAttention(config: ConfigReader, eps: number): AttentionSpec {
  config.refuse('attn_output_gate', [true]);
  const heads = readHeads(config);
  const bias = config.boolean('attention_bias', false);
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    kind: 'attention',
    ...heads,
    rotary: readRotary(config, heads.headDim, { partial: 0.25, contextLength }),
    qkvBias: bias,
    outputBias: bias,
    qkNorm: { eps, weightOffset: 1, over: 'head' },
    outputGate: true,
  };
}

function gatedAttentionNames(prefix: string, spec: AttentionSpec, hiddenSize: number): AttentionNames {
  const { heads, headDim } = spec;
  const { queries } = attentionWidths(spec);
  const part = (offset: number): StoredPart => ({
    name: `${prefix}.q_proj`,
    shape: [2 * queries, hiddenSize],
    ranges: everyPeriod(heads, 2 * headDim, offset, headDim),
  });
  return {
    ...attentionNames(prefix),
    query: part(0),
    gate: part(headDim),
    queryNorm: `${prefix}.q_norm`,
    keyNorm: `${prefix}.k_norm`,
  };
}

/** Names of what is not stored by key head. */
export function deltaNames(
  prefix: string,
  spec: GatedDeltaSpec,
): Pick<GatedDeltaNames, 'kind' | 'convs' | 'dtBias' | 'aLog' | 'norm' | 'outProjection'> {
  return {
    kind: 'gatedDelta',
    convs: [[`${prefix}.conv1d`, gatedDeltaWidths(spec).conv]],
    dtBias: `${prefix}.dt_bias`,
    aLog: `${prefix}.A_log`,
    norm: `${prefix}.norm`,
    outProjection: `${prefix}.out_proj`,
  };
}

function interleavedDeltaNames(prefix: string, spec: GatedDeltaSpec, hiddenSize: number): GatedDeltaNames {
  const { keyHeads, valueHeads, keyDim, valueDim } = spec;
  const { keys, values } = gatedDeltaWidths(spec);
  // Of the value heads that share a key head.
  const heads = valueHeads / keyHeads;
  const width = heads * valueDim;
  const qkvz = (offset: number, count: number): StoredPart => ({
    name: `${prefix}.in_proj_qkvz`,
    shape: [2 * (keys + values), hiddenSize],
    ranges: everyPeriod(keyHeads, 2 * (keyDim + width), offset, count),
  });
  const ba = (offset: number): StoredPart => ({
    name: `${prefix}.in_proj_ba`,
    shape: [2 * valueHeads, hiddenSize],
    ranges: everyPeriod(keyHeads, 2 * heads, offset, heads),
  });
  return {
    ...deltaNames(prefix, spec),
    query: qkvz(0, keyDim),
    key: qkvz(keyDim, keyDim),
    value: qkvz(2 * keyDim, width),
    z: qkvz(2 * keyDim + width, width),
    beta: ba(0),
    decay: ba(heads),
  };
}
