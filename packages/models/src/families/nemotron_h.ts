import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { BlockSpec, NormSpec } from '../spec/model_spec.ts';
import type { BlockNames, ParsedModel } from '../spec/weight_spec.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, readHeads, readLayerKinds } from './transformer.ts';

type LayerKind = 'mamba2' | 'attention' | 'mlp' | 'moe';

const LETTERS: Readonly<Record<string, LayerKind>> = { M: 'mamba2', '*': 'attention', '-': 'mlp', E: 'moe' };
const WORDS: Readonly<Record<string, LayerKind>> = {
  mamba: 'mamba2',
  linear_attention: 'mamba2',
  attention: 'attention',
  full_attention: 'attention',
  mlp: 'mlp',
  moe: 'moe',
};

/**
 * Nemotron-H and Nemotron 3, and with them the Mamba-2 and Mamba-2-Hybrid models of arXiv 2406.07887: Mamba-2 with a
 * gated norm of each group, attention without positions, ungated feed-forward layers and experts in the order of a
 * pattern, each a residual sub-layer of its own.
 *
 * Scores of experts are sigmoids. A correction, and groups of experts, count in the choice alone. Every token also takes a
 * shared feed-forward layer, which reads the stream itself even where the experts read a projection of it
 * (`moe_latent_size`).
 *
 * `time_step_min` bounds only how dt was initialised. (The Hugging Face class also clamps dt with it in prefill but not
 * in decoding; Megatron and llama.cpp do neither, and one rule for both is what a model was trained with.) Nor does
 * that class tie its head to the embeddings, whatever `tie_word_embeddings` says. Tensors that predict several tokens at
 * once (`mtp`) are passed over.
 */
export function parseNemotronH(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  config.refuse('mamba_hidden_act', ['silu', 'swish']);
  config.refuse('sliding_window', []);
  const norm: NormSpec = { kind: 'rms', eps: config.number('layer_norm_epsilon', 1e-5), weightOffset: 0 };
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    spec: {
      family: 'nemotron_h',
      vocabSize: config.size('vocab_size'),
      hiddenSize: config.size('hidden_size'),
      layers: kinds.map((kind) => ({ norms: [norm], blocks: [readBlock(config, kind)] })),
      finalNorm: norm,
      tiedEmbeddings: false,
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
        blocks: [blockNames(config, kind, `backbone.layers.${index}.mixer`)],
      })),
      ignored: [/^mtp\./],
    },
  };
}

function readBlock(config: ConfigReader, kind: LayerKind): BlockSpec {
  const bias = config.boolean('mlp_bias', false);
  switch (kind) {
    case 'mamba2': {
      // Where a configuration has the other classes' names for them, those count, as in the Hugging Face class.
      const groups = config.size('mamba_n_groups', config.size('n_groups', 8));
      return {
        kind,
        heads: config.size('mamba_num_heads'),
        headDim: config.size('mamba_head_dim'),
        groups,
        stateSize: config.size('ssm_state_size'),
        convWidth: config.size('mamba_d_conv', config.size('conv_kernel', 4)),
        convBias: config.boolean('mamba_conv_bias', config.boolean('use_conv_bias', true)),
        projectionBias: config.boolean('use_bias', config.boolean('mamba_proj_bias', false)),
        gate: 'gateFirst',
        normGroups: groups,
        normEps: config.number('layer_norm_epsilon', 1e-5),
        dtLimits: [0, Infinity],
      };
    }
    case 'attention': {
      const attentionBias = config.boolean('attention_bias', false);
      return { kind, ...readHeads(config), qkvBias: attentionBias, outputBias: attentionBias };
    }
    case 'mlp':
      return {
        kind,
        intermediateSize: config.size('intermediate_size'),
        activation: readActivation(config, 'mlp_hidden_act', 'relu2'),
        gated: false,
        bias,
      };
    case 'moe':
      return readExperts(config, bias);
  }
}

function readExperts(config: ConfigReader, bias: boolean): BlockSpec {
  const latentSize = config.optionalSize('moe_latent_size');
  return {
    kind: 'moe',
    experts: config.size('n_routed_experts'),
    topK: config.size('num_experts_per_tok'),
    intermediateSize: config.size('moe_intermediate_size'),
    activation: readActivation(config, 'mlp_hidden_act', 'relu2'),
    gated: false,
    scoring: 'sigmoid',
    order: 'scoreThenTopK',
    normalize: config.boolean('norm_topk_prob', true),
    normalizeEps: 1e-20,
    routedScale: config.number('routed_scaling_factor', 1),
    groups: config.size('n_group', 1),
    topGroups: config.size('topk_group', 1),
    correctionBias: true,
    ...(latentSize === undefined ? {} : { latentSize }),
    bias,
    shared: { intermediateSize: config.size('moe_shared_expert_intermediate_size'), gate: false },
  };
}

function blockNames(config: ConfigReader, kind: LayerKind, prefix: string): BlockNames {
  const mlpNames = (owner: string): { readonly up: string; readonly down: string } => ({
    up: `${owner}.up_proj`,
    down: `${owner}.down_proj`,
  });
  switch (kind) {
    case 'mamba2':
      return mamba2Names(prefix);
    case 'attention':
      return attentionNames(prefix);
    case 'mlp':
      return { kind, ...mlpNames(prefix) };
    case 'moe':
      return {
        kind,
        router: `${prefix}.gate`,
        correctionBias: `${prefix}.gate.e_score_correction_bias`,
        expert: (index) => mlpNames(`${prefix}.experts.${index}`),
        ...(config.raw('moe_latent_size') !== undefined && {
          latent: { down: `${prefix}.fc1_latent_proj`, up: `${prefix}.fc2_latent_proj` },
        }),
        shared: mlpNames(`${prefix}.shared_experts`),
      };
  }
}

/** The kind of every layer, from `layers_block_type` (old and new words) or `hybrid_override_pattern` (letters). */
function layerKinds(config: ConfigReader): readonly LayerKind[] {
  return (
    readLayerKinds(config, 'layers_block_type', WORDS) ??
    readLayerKinds(config, 'layer_types', WORDS) ??
    readLayerKinds(config, 'hybrid_override_pattern', LETTERS, [...config.string('hybrid_override_pattern')]) ??
    []
  );
}
