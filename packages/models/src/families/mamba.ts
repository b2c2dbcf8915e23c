import type { ConfigReader } from '../spec/config.ts';
import type { MambaSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { MambaNames } from '../spec/weights/mamba.ts';
import { readStateSpace, stateSpaceModel } from './state_space.ts';

/** Mamba as Hugging Face's `MambaForCausalLM` stores it. Its head is tied unless the configuration says otherwise. */
export function parseMamba(config: ConfigReader): ParsedModel {
  const model = readStateSpace(config, { tiedEmbeddings: true });
  return stateSpaceModel({
    ...model,
    family: 'mamba',
    block: readMamba(config, model.hiddenSize, MAMBA_FIELDS),
    mixerNames: mambaNames,
  });
}

/** What a family's configurations call the sizes of a Mamba mixer. */
export interface MambaFields {
  readonly expand: string;
  readonly stateSize: string;
  readonly dtRank: string;
  readonly convWidth: string;
  readonly convBias: string;
  readonly projectionBias: string;
}

/** The fields of the Hugging Face classes of pure Mamba models. */
export const MAMBA_FIELDS: MambaFields = {
  expand: 'expand',
  stateSize: 'state_size',
  dtRank: 'time_step_rank',
  convWidth: 'conv_kernel',
  convBias: 'use_conv_bias',
  projectionBias: 'use_bias',
};

/** A Mamba mixer. Where the rank of dt is absent or 'auto', it is a sixteenth of the model's width. */
export function readMamba(config: ConfigReader, hiddenSize: number, fields: MambaFields): MambaSpec {
  config.refuse('hidden_act', ['silu', 'swish']);
  const sixteenth = Math.ceil(hiddenSize / 16);
  return {
    kind: 'mamba',
    innerSize: Math.floor(config.number(fields.expand, 2) * hiddenSize),
    stateSize: config.size(fields.stateSize, 16),
    dtRank: config.raw(fields.dtRank) === 'auto' ? sixteenth : config.size(fields.dtRank, sixteenth),
    convWidth: config.size(fields.convWidth, 4),
    convBias: config.boolean(fields.convBias, true),
    projectionBias: config.boolean(fields.projectionBias, false),
  };
}

/** Tensor names of a Mamba mixer, the same in every family that has one. */
export function mambaNames(prefix: string): MambaNames {
  return {
    kind: 'mamba',
    inProjection: `${prefix}.in_proj`,
    conv: `${prefix}.conv1d`,
    xProjection: `${prefix}.x_proj`,
    dtProjection: `${prefix}.dt_proj`,
    aLog: `${prefix}.A_log`,
    dSkip: `${prefix}.D`,
    outProjection: `${prefix}.out_proj`,
  };
}
