import type { ConfigReader } from '../spec/config.ts';
import type { Mamba2Spec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { Mamba2Names } from '../spec/weights/mamba2.ts';
import { readStateSpace, stateSpaceModel } from './state_space.ts';

/**
 * Tensor names of a Mamba-2 mixer, the same in every family that has one.
 *
 * @param normed whether its gate has a norm
 */
export function mamba2Names(prefix: string, normed: boolean = true): Mamba2Names {
  return {
    kind: 'mamba2',
    inProjection: `${prefix}.in_proj`,
    conv: `${prefix}.conv1d`,
    dtBias: `${prefix}.dt_bias`,
    aLog: `${prefix}.A_log`,
    dSkip: `${prefix}.D`,
    ...(normed && { norm: `${prefix}.norm` }),
    outProjection: `${prefix}.out_proj`,
  };
}

/**
 * Mamba-2 as Hugging Face's `Mamba2ForCausalLM` stores it. The gated norm spans all channels, whatever the groups, as in
 * that class. (mamba_ssm has a norm for each group, which is the same with one group.)
 */
export function parseMamba2(config: ConfigReader): ParsedModel {
  config.refuse('hidden_act', ['silu', 'swish']);
  config.refuse('rms_norm', [true]);
  const model = readStateSpace(config, { tiedEmbeddings: false });
  const block: Mamba2Spec = {
    kind: 'mamba2',
    heads: config.size('num_heads'),
    headDim: config.size('head_dim'),
    groups: config.size('n_groups', 8),
    stateSize: config.size('state_size'),
    convWidth: config.size('conv_kernel', 4),
    convBias: config.boolean('use_conv_bias', true),
    projectionBias: config.boolean('use_bias', false),
    gate: 'gateFirst',
    normGroups: 1,
    normEps: model.norm.eps,
    dtLimits: readTimeStepLimit(config, 'time_step_limit'),
  };
  return stateSpaceModel({ ...model, family: 'mamba2', block, mixerNames: (prefix) => mamba2Names(prefix) });
}

/**
 * Bounds of dt after softplus, which models were trained with. The Hugging Face classes and mamba_ssm apply them to
 * prompts and forget them in decoding; here one rule holds for both.
 */
export function readTimeStepLimit(config: ConfigReader, field: string): readonly [number, number] {
  const [lowest = 0, highest = Infinity] = config.numbers(field) ?? [];
  return [lowest, highest];
}
