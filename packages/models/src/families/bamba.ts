import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { Mamba2Spec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { decoderModel } from './decoder.ts';
import { mamba2Names, readTimeStepLimit } from './mamba2.ts';
import { attentionNames, gatedMlpNames, readAttention, readGatedMlp, readLayerKinds } from './transformer.ts';

/**
 * Bamba: Mamba-2, in some layers attention with RoPE on one half of each head, and SwiGLU. The gated norm spans all
 * channels, whatever the groups.
 */
export function parseBamba(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  const mixer = readBambaMixer(config);
  const feedForward = readGatedMlp(config);
  return decoderModel(config, {
    family: 'bamba',
    norms: ['input_layernorm', 'pre_ff_layernorm'],
    finalNorm: 'model.final_layernorm',
    layer: (index, prefix) => ({
      mixers: [
        kinds[index] === 'attention'
          ? { block: readAttention(config, { partial: 0.5 }), names: attentionNames(`${prefix}.self_attn`) }
          : { block: mixer, names: mamba2Names(`${prefix}.mamba`) },
      ],
      feedForward: { block: feedForward, names: gatedMlpNames(`${prefix}.feed_forward`) },
    }),
  });
}

/**
 * A Mamba-2 mixer as Bamba's configurations and those of its descendants describe it, with one gated norm of all channels.
 *
 * @param innerSize E, where a field beside `mamba_expand` holds it
 * @throws UnsupportedModelError if the heads do not make up the inner width
 */
export function readBambaMixer(config: ConfigReader, innerSize?: number): Mamba2Spec {
  config.refuse('hidden_act', ['silu', 'swish']);
  const inner = innerSize ?? Math.floor(config.number('mamba_expand', 2) * config.size('hidden_size'));
  const heads = config.size('mamba_n_heads', 128);
  const headDim = config.raw('mamba_d_head') === 'auto' ? inner / heads : config.size('mamba_d_head', inner / heads);
  if (!Number.isInteger(headDim) || heads * headDim !== inner) {
    throw new UnsupportedModelError(
      `config.json: 'mamba_n_heads' (${heads}) times 'mamba_d_head' (${headDim}) must be the inner width, ${inner}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  return {
    kind: 'mamba2',
    heads,
    headDim,
    groups: config.size('mamba_n_groups', 1),
    stateSize: config.size('mamba_d_state', 256),
    convWidth: config.size('mamba_d_conv', 4),
    convBias: config.boolean('mamba_conv_bias', true),
    projectionBias: config.boolean('mamba_proj_bias', false),
    gate: 'gateFirst',
    normGroups: 1,
    normEps: config.number('rms_norm_eps', 1e-5),
    dtLimits: readTimeStepLimit(config, 'time_step_limit'),
  };
}

/** Old and new words for the layers of hybrids. */
const WORDS: Readonly<Record<string, 'mamba2' | 'attention'>> = {
  mamba: 'mamba2',
  linear_attention: 'mamba2',
  attention: 'attention',
  full_attention: 'attention',
};

/** The kind of every layer from a list of words, under either of its names. */
export function readHybridKinds(config: ConfigReader): readonly ('mamba2' | 'attention')[] | undefined {
  return readLayerKinds(config, 'layer_types', WORDS) ?? readLayerKinds(config, 'layers_block_type', WORDS);
}

/** Indices of attention count; words are for configurations that name none. */
function layerKinds(config: ConfigReader): readonly ('mamba2' | 'attention')[] {
  const layers = config.size('num_hidden_layers');
  const indices = config.numbers('attn_layer_indices');
  const outside = indices?.find((index) => !Number.isInteger(index) || index < 0 || index >= layers);
  if (outside !== undefined) {
    throw new UnsupportedModelError(
      `config.json: 'attn_layer_indices' names layer ${outside} of ${layers}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  const all = Array.from({ length: layers }, (_, index) =>
    indices?.includes(index) === true ? 'attention' : 'mamba2',
  );
  return indices === undefined ? (readHybridKinds(config) ?? all) : all;
}
