import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { DecoderLayer } from './decoder.ts';
import { decoderModel } from './decoder.ts';
import type { MambaFields } from './mamba.ts';
import { mambaNames, readMamba } from './mamba.ts';
import { attentionNames, gatedMlpNames, readGatedMlp, readHeads } from './transformer.ts';

const FIELDS: MambaFields = {
  expand: 'mamba_expand',
  stateSize: 'mamba_d_state',
  dtRank: 'mamba_dt_rank',
  convWidth: 'mamba_d_conv',
  convBias: 'mamba_conv_bias',
  projectionBias: 'mamba_proj_bias',
};

/**
 * Jamba: Mamba with learned norms of dt, B and C, and now and then attention without positions; in turn a feed-forward
 * layer or experts follow. Softmax over all experts weighs the chosen ones, whose weights are not divided by their sum.
 */
export function parseJamba(config: ConfigReader): ParsedModel {
  config.refuse('sliding_window', []);
  const attends = everyPeriod(config, 'attn_layer', 8, 4);
  const experts = config.size('num_experts', 16);
  const routes = everyPeriod(config, 'expert_layer', 2, 1);
  return decoderModel(config, {
    family: 'jamba',
    norms: ['input_layernorm', 'pre_ff_layernorm'],
    finalNorm: 'model.final_layernorm',
    layer: (index, prefix) => ({
      mixers: [attends(index) ? attention(config, prefix) : mamba(config, prefix)],
      feedForward: routes(index) && experts > 1 ? moe(config, prefix, experts) : mlp(config, prefix),
    }),
  });
}

type Part = DecoderLayer['feedForward'];

function mamba(config: ConfigReader, layer: string): Part {
  const prefix = `${layer}.mamba`;
  return {
    block: {
      ...readMamba(config, config.size('hidden_size'), FIELDS),
      innerNorm: { eps: config.number('rms_norm_eps', 1e-6), weights: true },
    },
    names: {
      ...mambaNames(prefix),
      innerNorms: { dt: `${prefix}.dt_layernorm`, B: `${prefix}.b_layernorm`, C: `${prefix}.c_layernorm` },
    },
  };
}

function attention(config: ConfigReader, layer: string): Part {
  return {
    block: { kind: 'attention', ...readHeads(config), qkvBias: false, outputBias: false },
    names: attentionNames(`${layer}.self_attn`),
  };
}

function mlp(config: ConfigReader, layer: string): Part {
  return { block: { ...readGatedMlp(config), bias: false }, names: gatedMlpNames(`${layer}.feed_forward`) };
}

function moe(config: ConfigReader, layer: string, experts: number): Part {
  const { intermediateSize, activation } = readGatedMlp(config);
  return {
    block: {
      kind: 'moe',
      experts,
      topK: config.size('num_experts_per_tok', 2),
      intermediateSize,
      activation,
      gated: true,
      scoring: 'softmax',
      order: 'scoreThenTopK',
      normalize: false,
      correctionBias: false,
    },
    names: {
      kind: 'moe',
      router: `${layer}.feed_forward.router`,
      expert: (index) => gatedMlpNames(`${layer}.feed_forward.experts.${index}`),
    },
  };
}

/** Whether a layer is one of those that `<name>_period` and `<name>_offset` count. */
function everyPeriod(
  config: ConfigReader,
  name: string,
  periodDefault: number,
  offsetDefault: number,
): (index: number) => boolean {
  const period = config.size(`${name}_period`, periodDefault);
  const offset = config.number(`${name}_offset`, offsetDefault);
  if (!Number.isInteger(offset) || offset < 0 || offset >= period) {
    throw new UnsupportedModelError(
      `config.json: '${name}_offset' must be a whole number below '${name}_period' (${period}); found ${offset}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  return (index) => index % period === offset;
}
