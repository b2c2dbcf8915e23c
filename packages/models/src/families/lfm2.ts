import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec, MlpSpec, NormSpec, ShortConvSpec } from '../spec/model_spec.ts';
import { readRotary } from '../spec/rotary.ts';
import type { BlockNames, LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { MlpNames } from '../spec/weights/mlp.ts';
import { attentionNames, DECODER_NAMES, readHeads, readLayerKinds } from './transformer.ts';

type LayerKind = 'shortConv' | 'attention';

const WORDS: Readonly<Record<string, LayerKind>> = { conv: 'shortConv', full_attention: 'attention' };

/**
 * LFM2: gated short convolutions and attention, each with a feed-forward layer behind it. Queries and keys are normalised
 * before they rotate. What the checkpoint calls `embedding_norm` is the norm in front of the head.
 */
export function parseLfm2(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  const eps = config.number('norm_eps', 1e-5);
  const norm: NormSpec = { kind: 'rms', eps, weightOffset: 0 };
  const heads = readHeads(config);
  const contextLength = config.optionalSize('max_position_embeddings');
  const attention: AttentionSpec = {
    kind: 'attention',
    ...heads,
    rotary: readRotary(config, heads.headDim, { theta: 1e6, contextLength }),
    qkvBias: false,
    outputBias: false,
    qkNorm: { eps, weightOffset: 0, over: 'head' },
  };
  const conv: ShortConvSpec = {
    kind: 'shortConv',
    convWidth: config.size('conv_L_cache', 3),
    bias: config.boolean('conv_bias', false),
  };
  const mlp: MlpSpec = {
    kind: 'mlp',
    intermediateSize: intermediateSize(config),
    activation: 'silu',
    gated: true,
    bias: false,
  };
  return {
    spec: {
      family: 'lfm2',
      vocabSize: config.size('vocab_size'),
      hiddenSize: config.size('hidden_size'),
      layers: kinds.flatMap((kind) => [
        { norms: [norm], blocks: [kind === 'shortConv' ? conv : attention] },
        { norms: [norm], blocks: [mlp] },
      ]),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_embedding', config.boolean('tie_word_embeddings', true)),
      // Convolutions alone see a few tokens back, whatever the configuration says of positions.
      ...(contextLength !== undefined && kinds.includes('attention') ? { contextLength } : {}),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      ...DECODER_NAMES,
      finalNorm: 'model.embedding_norm',
      layers: kinds.flatMap((kind, index): LayerNames[] => {
        const prefix = `model.layers.${index}`;
        return [
          { norms: [`${prefix}.operator_norm`], blocks: [mixerNames(kind, prefix)] },
          { norms: [`${prefix}.ffn_norm`], blocks: [mlpNames(`${prefix}.feed_forward`)] },
        ];
      }),
      ignored: [],
    },
  };
}

function mixerNames(kind: LayerKind, prefix: string): BlockNames {
  if (kind === 'shortConv') {
    return {
      kind,
      inProjection: `${prefix}.conv.in_proj`,
      conv: `${prefix}.conv.conv`,
      outProjection: `${prefix}.conv.out_proj`,
    };
  }
  return {
    ...attentionNames(`${prefix}.self_attn`, 'out_proj'),
    queryNorm: `${prefix}.self_attn.q_layernorm`,
    keyNorm: `${prefix}.self_attn.k_layernorm`,
  };
}

function mlpNames(prefix: string): MlpNames {
  return { kind: 'mlp', gate: `${prefix}.w1`, up: `${prefix}.w3`, down: `${prefix}.w2` };
}

/** From `layer_types`, or from the older `full_attn_idxs`: without either, every layer is attention. */
function layerKinds(config: ConfigReader): readonly LayerKind[] {
  const kinds = readLayerKinds(config, 'layer_types', WORDS);
  if (kinds !== undefined) return kinds;
  const attention = config.numbers('full_attn_idxs');
  return Array.from({ length: config.size('num_hidden_layers') }, (_, index): LayerKind =>
    attention === undefined || attention.includes(index) ? 'attention' : 'shortConv',
  );
}

/**
 * Width of the feed-forward layers. The configuration gives that of an ungated layer: two thirds of it make a gated one of
 * the same size, scaled and rounded up to whole blocks.
 */
function intermediateSize(config: ConfigReader): number {
  const stated = config.size('block_ff_dim', config.optionalSize('intermediate_size'));
  if (!config.boolean('block_auto_adjust_ff_dim', true)) return stated;
  const gated = Math.trunc((2 * stated) / 3);
  // Absent, it is 1; null stands for neither factor nor rounding.
  if (config.isNull('block_ffn_dim_multiplier')) return gated;
  const multiple = config.size('block_multiple_of', 256);
  return multiple * Math.ceil(Math.trunc(config.number('block_ffn_dim_multiplier', 1) * gated) / multiple);
}
