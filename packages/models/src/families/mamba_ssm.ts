import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { Mamba2Spec, NormSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { MambaFields } from './mamba.ts';
import { mambaNames, readMamba } from './mamba.ts';
import { mamba2Names, readTimeStepLimit } from './mamba2.ts';
import { stateSpaceModel } from './state_space.ts';

/** Added to the mean square in every norm: the package's own number, which no configuration holds. */
const EPS = 1e-5;

const FIELDS: MambaFields = {
  expand: 'expand',
  stateSize: 'd_state',
  dtRank: 'dt_rank',
  convWidth: 'd_conv',
  convBias: 'conv_bias',
  projectionBias: 'bias',
};

/** Whether a configuration is one of mamba_ssm, which names no `model_type`. */
export function isMambaSsm(config: ConfigReader): boolean {
  return config.raw('model_type') === undefined && config.raw('d_model') !== undefined;
}

/**
 * Mamba and Mamba-2 as the mamba_ssm package itself stores them: `d_model`, `n_layer` and the mixer's own arguments in
 * `ssm_cfg`. The vocabulary is rounded up to `pad_vocab_size_multiple`, and the gated norm of Mamba-2 has a group for each
 * group of B and C. Layers of attention (`attn_layer_idx`), which convolve queries, keys and values there, and
 * feed-forward layers are refused.
 */
export function parseMambaSsm(config: ConfigReader): ParsedModel {
  config.refuse('d_intermediate', [0]);
  if ((config.numbers('attn_layer_idx') ?? []).length > 0) {
    throw new UnsupportedModelError(
      "config.json: 'attn_layer_idx' names layers of attention, which this version does not run in models of mamba_ssm.",
      'Hybrids of Mamba-2 and attention run as nemotron_h, bamba, granitemoehybrid, falcon_h1 and zamba2.',
    );
  }
  const mixer = config.object('ssm_cfg');
  mixer.refuse('layer', ['Mamba1', 'Mamba2']);
  const hiddenSize = config.size('d_model');
  const multiple = config.size('pad_vocab_size_multiple', 8);
  const norm: NormSpec = { kind: config.boolean('rms_norm', true) ? 'rms' : 'layer', eps: EPS, weightOffset: 0 };
  const model = {
    vocabSize: Math.ceil(config.size('vocab_size') / multiple) * multiple,
    hiddenSize,
    layers: config.size('n_layer'),
    norm,
    tiedEmbeddings: config.boolean('tie_embeddings', true),
    eosTokens: config.tokens('eos_token_id'),
  };
  if (mixer.string('layer', 'Mamba1') === 'Mamba1') {
    const block = readMamba(mixer, hiddenSize, FIELDS);
    return stateSpaceModel({ ...model, family: 'mamba', block, mixerNames: mambaNames });
  }
  const block = readMamba2(mixer, hiddenSize);
  return stateSpaceModel({
    ...model,
    family: 'mamba2',
    block,
    mixerNames: (prefix) => mamba2Names(prefix, block.gate !== 'gateOnly'),
  });
}

function readMamba2(mixer: ConfigReader, hiddenSize: number): Mamba2Spec {
  const innerSize = Math.floor(mixer.number('expand', 2) * hiddenSize);
  const headDim = mixer.size('headdim', 64);
  const groups = mixer.size('ngroups', 1);
  // The channels beyond would be a feed-forward layer, and D a vector of each channel.
  mixer.refuse('d_ssm', [innerSize]);
  mixer.refuse('D_has_hdim', [false]);
  if (innerSize % headDim !== 0) {
    throw new UnsupportedModelError(
      `config.json: 'ssm_cfg.headdim' (${headDim}) must divide 'ssm_cfg.expand' times 'd_model' (${innerSize}).`,
      'Check that the configuration belongs to this model.',
    );
  }
  const gated = mixer.boolean('norm_before_gate', false) ? 'normFirst' : 'gateFirst';
  return {
    kind: 'mamba2',
    heads: innerSize / headDim,
    headDim,
    groups,
    stateSize: mixer.size('d_state', 128),
    convWidth: mixer.size('d_conv', 4),
    convBias: mixer.boolean('conv_bias', true),
    projectionBias: mixer.boolean('bias', false),
    gate: mixer.boolean('rmsnorm', true) ? gated : 'gateOnly',
    normGroups: groups,
    normEps: EPS,
    dtLimits: readTimeStepLimit(mixer, 'dt_limit'),
  };
}
