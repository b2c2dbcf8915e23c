import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { GatedDeltaSpec, MlpSpec, MoeSpec } from '../spec/model_spec.ts';
import { gatedDeltaWidths } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { GatedDeltaNames } from '../spec/weights/gated_delta.ts';
import type { StoredPart } from '../spec/weights/tensors.ts';
import { readSharedExperts } from './experts.ts';
import { deltaNames, qwenHybrid } from './qwen3_next.ts';
import { readGatedMlp } from './transformer.ts';

/**
 * The language model of Qwen3.5: Qwen3-Next with a feed-forward layer in every layer, and with projections of the delta
 * nets that are stored plainly: of q, k and v, of z, of beta and of the decay.
 *
 * Repositories of models that also see hold it in `text_config`, and its tensors under `model.language_model.`; their
 * vision tower is left aside. Their RoPE has three positions a token, which for text are equal: it is RoPE then.
 */
export function parseQwen35(config: ConfigReader): ParsedModel {
  const text = textConfig(config);
  const mlp = readGatedMlp(text);
  return qwen35(config, text, () => mlp);
}

/** Qwen3.5 with experts in every layer, whose weights always sum to 1. */
export function parseQwen35Moe(config: ConfigReader): ParsedModel {
  const text = textConfig(config);
  const moe = readSharedExperts(text, true);
  if (moe !== undefined) return qwen35(config, text, () => moe);
  throw new UnsupportedModelError(
    "config.json: 'num_experts' is 0 in a model of experts.",
    'Check that the configuration belongs to this model.',
  );
}

function textConfig(config: ConfigReader): ConfigReader {
  return config.raw('text_config') === undefined ? config : config.object('text_config');
}

function qwen35(config: ConfigReader, text: ConfigReader, feedForward: () => MlpSpec | MoeSpec): ParsedModel {
  text.refuse('quantization_config', []);
  // Of the norms of the delta nets.
  text.refuse('output_gate_type', ['swish', 'silu']);
  const { spec, names } = qwenHybrid(config, text, { mixerNames: plainDeltaNames, feedForward });
  return {
    spec,
    names: {
      ...names,
      prefixes: [{ 'model.': 'model.language_model.' }],
      ignored: [...names.ignored, /^model\.visual\./],
    },
  };
}

function plainDeltaNames(prefix: string, spec: GatedDeltaSpec, hiddenSize: number): GatedDeltaNames {
  const { keys, values, conv } = gatedDeltaWidths(spec);
  const part = (first: number, count: number): StoredPart => ({
    name: `${prefix}.in_proj_qkv`,
    shape: [conv, hiddenSize],
    ranges: [{ first, count }],
  });
  return {
    ...deltaNames(prefix, spec),
    query: part(0, keys),
    key: part(keys, keys),
    value: part(2 * keys, values),
    z: `${prefix}.in_proj_z`,
    beta: `${prefix}.in_proj_b`,
    decay: `${prefix}.in_proj_a`,
  };
}
