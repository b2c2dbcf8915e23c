import type { ConfigReader } from '../spec/config.ts';
import type { LayerSpec, Mamba2Spec, NormSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { Mamba2Names } from '../spec/weights/mamba2.ts';

/** Tensor names of a Mamba-2 mixer, the same in every family that has one. */
export function mamba2Names(prefix: string): Mamba2Names {
  return {
    kind: 'mamba2',
    inProjection: `${prefix}.in_proj`,
    conv: `${prefix}.conv1d`,
    dtBias: `${prefix}.dt_bias`,
    aLog: `${prefix}.A_log`,
    dSkip: `${prefix}.D`,
    norm: `${prefix}.norm`,
    outProjection: `${prefix}.out_proj`,
  };
}

/** Mamba-2 as Hugging Face's `Mamba2ForCausalLM` stores it. The gated norm spans all channels, whatever the groups. */
export function parseMamba2(config: ConfigReader): ParsedModel {
  const hiddenSize = config.size('hidden_size');
  const heads = config.size('num_heads');
  const headDim = config.size('head_dim');
  config.refuse('hidden_act', ['silu', 'swish']);
  config.refuse('rms_norm', [true]);
  const eps = config.number('layer_norm_epsilon', 1e-5);
  const [lowest = 0, highest = Infinity] = config.numbers('time_step_limit') ?? [];
  const block: Mamba2Spec = {
    kind: 'mamba2',
    heads,
    headDim,
    groups: config.size('n_groups', 8),
    stateSize: config.size('state_size'),
    convWidth: config.size('conv_kernel', 4),
    convBias: config.boolean('use_conv_bias', true),
    projectionBias: config.boolean('use_bias', false),
    gate: 'gateFirst',
    normGroups: 1,
    normEps: eps,
    dtLimits: [lowest, highest],
  };
  const norm: NormSpec = { kind: 'rms', eps, weightOffset: 0 };
  const layer: LayerSpec = { norms: [norm], blocks: [block] };
  const count = config.size('num_hidden_layers');
  return {
    spec: {
      family: 'mamba2',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: Array.from({ length: count }, () => layer),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'backbone.embeddings',
      finalNorm: 'backbone.norm_f',
      head: 'lm_head',
      layers: Array.from({ length: count }, (_, index) => ({
        norms: [`backbone.layers.${index}.norm`],
        blocks: [mamba2Names(`backbone.layers.${index}.mixer`)],
      })),
      ignored: [],
    },
  };
}
