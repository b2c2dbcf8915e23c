import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { Mamba2Spec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { Mamba2Names } from '../spec/weights/mamba2.ts';
import type { PartName } from '../spec/weights/tensors.ts';
import { readBambaMixer } from './bamba.ts';
import type { NamedBlock } from './decoder.ts';
import { decoderModel } from './decoder.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, gatedMlpNames, readAttention, readGatedMlp } from './transformer.ts';

/**
 * Falcon-H1: in every layer Mamba-2 and attention read one norm and both add to the stream, then SwiGLU. Nearly every
 * product has a factor (muP). Those of results are factors here too, and that of keys is one of the scores; what passes a
 * convolution or an activation before it could be multiplied has its factor in the weights, biases included.
 *
 * With `mamba_rms_norm` the gate has a norm for each group, in front of it or behind it as `mamba_norm_before_gate` says;
 * without, z only gates. The width of the mixer is `mamba_d_ssm`, whatever `mamba_expand` is.
 */
export function parseFalconH1(config: ConfigReader): ParsedModel {
  return decoderModel(config, {
    family: 'falcon_h1',
    norms: ['input_layernorm', 'pre_ff_layernorm'],
    finalNorm: 'model.final_layernorm',
    scales: {
      embeddingScale: config.number('embedding_multiplier', 1),
      logitScale: config.number('lm_head_multiplier', 1),
    },
    layer: (_, prefix) => ({
      mixers: [mixer(config, `${prefix}.mamba`), attention(config, `${prefix}.self_attn`)],
      feedForward: feedForward(config, `${prefix}.feed_forward`),
    }),
  });
}

function mixer(config: ConfigReader, prefix: string): NamedBlock {
  const plain = readBambaMixer(config, config.optionalSize('mamba_d_ssm'));
  const normed = config.boolean('mamba_rms_norm', false);
  const order = config.boolean('mamba_norm_before_gate', true) ? 'normFirst' : 'gateFirst';
  const block: Mamba2Spec = {
    ...plain,
    outputBias: config.boolean('projectors_bias', false),
    gate: normed ? order : 'gateOnly',
    normGroups: plain.groups,
    outputScale: config.number('ssm_out_multiplier', 1),
  };
  return { block, names: { ...mamba2Names(prefix, normed), inScales: inScales(config) } };
}

function inScales(config: ConfigReader): NonNullable<Mamba2Names['inScales']> {
  const [z = 1, x = 1, B = 1, C = 1, dt = 1] = readFactors(config, 'ssm_multipliers', 5);
  return { input: config.number('ssm_in_multiplier', 1), z, x, B, C, dt };
}

function attention(config: ConfigReader, prefix: string): NamedBlock {
  const plain = readAttention(config);
  const { query, key, value, ...names } = attentionNames(prefix);
  // Biases are added to products of the input that is multiplied already.
  const scale = config.number('attention_in_multiplier', 1);
  const scaled = (part: string): PartName => (scale === 1 ? part : { name: part, scale, biasScale: 1 });
  return {
    block: {
      ...plain,
      scale: config.number('key_multiplier', 1) / Math.sqrt(plain.headDim),
      outputScale: config.number('attention_out_multiplier', 1),
    },
    names: { ...names, query: scaled(query), key: scaled(key), value: scaled(value) },
  };
}

function feedForward(config: ConfigReader, prefix: string): NamedBlock {
  const [gateScale = 1, outputScale = 1] = readFactors(config, 'mlp_multipliers', 2);
  const { gate, ...names } = gatedMlpNames(prefix);
  return {
    block: { ...readGatedMlp(config), outputScale },
    names: { ...names, gate: gateScale === 1 ? gate : { name: gate, scale: gateScale } },
  };
}

function readFactors(config: ConfigReader, field: string, count: number): readonly number[] {
  const factors = config.numbers(field) ?? [];
  if (factors.length === 0 || factors.length === count) return factors;
  throw new UnsupportedModelError(
    `config.json: '${field}' must hold ${count} factors; found ${factors.length}.`,
    'Check that the configuration belongs to this model.',
  );
}
