import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { BlockSpec, NormSpec } from '../spec/model_spec.ts';
import type { BlockNames, ParsedModel } from '../spec/weight_spec.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, readHeads, readLayerKinds } from './transformer.ts';

type LayerKind = 'mamba2' | 'attention' | 'mlp';

const LETTERS: Readonly<Record<string, LayerKind>> = { M: 'mamba2', '*': 'attention', '-': 'mlp' };
const WORDS: Readonly<Record<string, LayerKind>> = {
  mamba: 'mamba2',
  linear_attention: 'mamba2',
  attention: 'attention',
  full_attention: 'attention',
  mlp: 'mlp',
};

/**
 * Nemotron-H, and with it the Mamba-2 and Mamba-2-Hybrid models of arXiv 2406.07887: Mamba-2, attention without
 * positions and ungated feed-forward layers in the order of a pattern, each a residual sub-layer of its own.
 *
 * `time_step_min` bounds only how dt was initialised. (The Hugging Face class also clamps dt with it in prefill but not
 * in decoding; Megatron and llama.cpp do neither, and one rule for both is what a model was trained with.)
 */
export function parseNemotronH(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  for (const name of ['mlp_bias', 'attention_bias']) config.refuse(name, [false]);
  config.refuse('mamba_hidden_act', ['silu', 'swish']);
  const eps = config.number('layer_norm_epsilon', 1e-5);
  const norm: NormSpec = { kind: 'rms', eps, weightOffset: 0 };
  const groups = config.size('n_groups', 8);
  const hiddenSize = config.size('hidden_size');
  const blockOf = (kind: LayerKind): BlockSpec => {
    switch (kind) {
      case 'mamba2':
        return {
          kind,
          heads: config.size('mamba_num_heads'),
          headDim: config.size('mamba_head_dim'),
          groups,
          stateSize: config.size('ssm_state_size'),
          convWidth: config.size('conv_kernel', 4),
          convBias: config.boolean('use_conv_bias', true),
          projectionBias: config.boolean('use_bias', config.boolean('mamba_proj_bias', false)),
          gate: 'gateFirst',
          normGroups: groups,
          normEps: eps,
          dtLimits: [0, Infinity],
        };
      case 'attention':
        return { kind, ...readHeads(config), qkvBias: false, outputBias: false };
      case 'mlp':
        return {
          kind,
          intermediateSize: config.size('intermediate_size'),
          activation: readActivation(config, 'mlp_hidden_act', 'relu2'),
          gated: false,
          bias: false,
        };
    }
  };
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    spec: {
      family: 'nemotron_h',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: kinds.map((kind) => ({ norms: [norm], blocks: [blockOf(kind)] })),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      // Without attention nothing bounds the context, whatever the configuration says of positions.
      ...(contextLength !== undefined && kinds.includes('attention') ? { contextLength } : {}),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'backbone.embeddings',
      finalNorm: 'backbone.norm_f',
      head: 'lm_head',
      layers: kinds.map((kind, index) => ({
        norms: [`backbone.layers.${index}.norm`],
        blocks: [blockNames(kind, `backbone.layers.${index}.mixer`)],
      })),
      ignored: [],
    },
  };
}

function blockNames(kind: LayerKind, prefix: string): BlockNames {
  switch (kind) {
    case 'mamba2':
      return mamba2Names(prefix);
    case 'attention':
      return attentionNames(prefix);
    case 'mlp':
      return { kind, up: `${prefix}.up_proj`, down: `${prefix}.down_proj` };
  }
}

/** The kind of every layer, from `layers_block_type` (old and new words) or `hybrid_override_pattern` (letters). */
function layerKinds(config: ConfigReader): readonly LayerKind[] {
  return (
    readLayerKinds(config, 'layers_block_type', WORDS) ??
    readLayerKinds(config, 'hybrid_override_pattern', LETTERS, [...config.string('hybrid_override_pattern')]) ??
    []
  );
}
