import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { MAMBA_FIELDS, mambaNames, readMamba } from './mamba.ts';
import { readStateSpace, stateSpaceModel } from './state_space.ts';

/** Falcon-Mamba: Mamba whose dt, B and C pass norms that have no weights, so that its tensors are Mamba's. */
export function parseFalconMamba(config: ConfigReader): ParsedModel {
  const model = readStateSpace(config, { tiedEmbeddings: true });
  return stateSpaceModel({
    ...model,
    family: 'falcon_mamba',
    block: {
      ...readMamba(config, model.hiddenSize, MAMBA_FIELDS),
      innerNorm: { eps: config.number('mixer_rms_eps', 1e-6), weights: false },
    },
    mixerNames: mambaNames,
  });
}
