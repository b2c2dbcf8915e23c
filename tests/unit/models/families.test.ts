import { UnsupportedModelError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { BlockSpec, ModelSpec, RotarySpec } from '../../../packages/models/src/spec/model_spec.ts';
import { readFixture } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';
import { LLAMA, MAMBA2, NEMOTRON_H, PAPER_HYBRID, without } from './configs.ts';

const specOf = (config: Config): ModelSpec => parseConfig(config).spec;
const blocks = (spec: ModelSpec): BlockSpec[] => spec.layers.flatMap((layer) => layer.blocks);
const kinds = (spec: ModelSpec): string[] => blocks(spec).map(({ kind }) => kind);

describe('llama', () => {
  it('is attention and a gated feed-forward layer in turn', () => {
    const spec = specOf(LLAMA);
    expect(kinds(spec)).toEqual(['attention', 'mlp', 'attention', 'mlp']);
    expect(spec).toMatchObject({
      family: 'llama',
      vocabSize: 64,
      hiddenSize: 48,
      tiedEmbeddings: false,
      contextLength: 256,
      eosTokens: [2, 3],
      finalNorm: { kind: 'rms', eps: 1e-5, weightOffset: 0 },
    });
    expect(blocks(spec)[0]).toEqual({
      kind: 'attention',
      heads: 6,
      kvHeads: 2,
      headDim: 8,
      rotary: { dim: 8, theta: 500000 },
      qkvBias: false,
      outputBias: false,
    });
    expect(blocks(spec)[1]).toEqual({
      kind: 'mlp',
      intermediateSize: 40,
      activation: 'silu',
      gated: true,
      bias: false,
    });
  });

  it('has as many key heads as heads where the configuration says nothing', () => {
    const [attention] = blocks(specOf({ ...without(LLAMA, 'num_key_value_heads'), head_dim: 16 }));
    expect(attention).toMatchObject({ kvHeads: 6, headDim: 16 });
  });

  const rotaryOf = (fields: Config): RotarySpec | undefined => {
    const [attention] = blocks(specOf({ ...without(LLAMA, 'rope_theta'), ...fields }));
    return attention?.kind === 'attention' ? attention.rotary : undefined;
  };
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const llama3Spec = {
    type: 'llama3',
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalContextLength: 8192,
  };

  it.each<[string, Config, unknown]>([
    ['no field', {}, { dim: 8, theta: 10000 }],
    ['rope_theta', { rope_theta: 1e6 }, { dim: 8, theta: 1e6 }],
    ['rope_scaling null', { rope_theta: 1e6, rope_scaling: null }, { dim: 8, theta: 1e6 }],
    [
      'rope_scaling with type',
      { rope_theta: 1e6, rope_scaling: { type: 'linear', factor: 2 } },
      { dim: 8, theta: 1e6, scaling: { type: 'linear', factor: 2 } },
    ],
    [
      'rope_scaling with rope_type',
      { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      { dim: 8, theta: 5e5, scaling: llama3Spec },
    ],
    ['rope_parameters', { rope_parameters: { rope_type: 'default', rope_theta: 2e4 } }, { dim: 8, theta: 2e4 }],
    [
      'rope_parameters with scaling',
      { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } },
      { dim: 8, theta: 5e5, scaling: llama3Spec },
    ],
    [
      'rope_parameters with a partial rotation',
      { rope_parameters: { rope_type: 'default', rope_theta: 1e4, partial_rotary_factor: 0.5 } },
      { dim: 4, theta: 1e4 },
    ],
  ])('reads positions from %s', (_name, fields, expected) => {
    expect(rotaryOf(fields)).toEqual(expected);
  });
});

describe('mamba2', () => {
  it('is Mamba-2 alone, with a norm over all channels and no bound of the context', () => {
    const spec = specOf(MAMBA2);
    expect(kinds(spec)).toEqual(['mamba2', 'mamba2']);
    expect(spec.contextLength).toBeUndefined();
    expect(spec).toMatchObject({ tiedEmbeddings: true, eosTokens: [0] });
    expect(blocks(spec)[0]).toEqual({
      kind: 'mamba2',
      heads: 4,
      headDim: 8,
      groups: 2,
      stateSize: 16,
      convWidth: 4,
      convBias: true,
      projectionBias: false,
      gate: 'gateFirst',
      normGroups: 1,
      normEps: 1e-6,
      dtLimits: [0, Infinity],
    });
  });

  it('reads bounds of dt and switches of biases', () => {
    const [block] = blocks(specOf({ ...MAMBA2, time_step_limit: [0.1, 2], use_bias: true, use_conv_bias: false }));
    expect(block).toMatchObject({ dtLimits: [0.1, 2], projectionBias: true, convBias: false });
  });
});

describe('nemotron_h', () => {
  it('reads a pattern of letters', () => {
    const spec = specOf(NEMOTRON_H);
    expect(kinds(spec)).toEqual(['mamba2', 'mlp', 'attention']);
    const [mamba, mlp, attention] = blocks(spec);
    expect(mamba).toMatchObject({ groups: 2, normGroups: 2, dtLimits: [0, Infinity] });
    expect(mlp).toEqual({ kind: 'mlp', intermediateSize: 48, activation: 'relu2', gated: false, bias: false });
    // No rotary embedding: the model has no positions.
    expect(attention).toEqual({
      kind: 'attention',
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      qkvBias: false,
      outputBias: false,
    });
  });

  it.each([
    ['older words', ['mamba', 'mlp', 'attention']],
    ['newer words', ['linear_attention', 'mlp', 'full_attention']],
  ])('reads %s', (_name, words) => {
    const spec = specOf({ ...without(NEMOTRON_H, 'hybrid_override_pattern'), layers_block_type: words });
    expect(spec).toEqual(specOf(NEMOTRON_H));
  });

  it('needs no number of layers', () => {
    expect(specOf(without(NEMOTRON_H, 'num_hidden_layers')).layers).toHaveLength(3);
  });

  it('without attention needs no attention fields and has no bound of the context', () => {
    const config = without(NEMOTRON_H, 'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads', 'head_dim');
    const spec = specOf({ ...config, hybrid_override_pattern: 'MM-' });
    expect(kinds(spec)).toEqual(['mamba2', 'mamba2', 'mlp']);
    expect(spec.contextLength).toBeUndefined();
    expect(specOf(NEMOTRON_H).contextLength).toBe(256);
  });

  it('holds the 8B hybrid of the paper', () => {
    const spec = specOf(PAPER_HYBRID);
    const count = (kind: string): number => kinds(spec).filter((other) => other === kind).length;
    expect([count('mamba2'), count('attention'), count('mlp')]).toEqual([24, 4, 28]);
    expect(blocks(spec).find(({ kind }) => kind === 'mlp')).toMatchObject({ activation: 'gelu', gated: false });
  });
});

it.each(['llama', 'mamba2', 'nemotron_h', 'stories260k'])('reads the configuration of the fixture %s', (name) => {
  const config = readFixture<Config>(`models/${name}/config.json`);
  // JSON has no Infinity: a reader of checkpoints has replaced it before this point.
  const { spec } = parseConfig({ ...config, time_step_limit: undefined });
  expect(spec.family).toBe(config['model_type']);
  expect(spec.vocabSize).toBe(config['vocab_size']);
});

describe('refuses', () => {
  /** The configuration, and what the message must name. */
  const cases: readonly (readonly [string, unknown, ...string[]])[] = [
    ['what is no object', [1], 'config.json'],
    ['no family', without(LLAMA, 'model_type'), 'model_type'],
    ['an unknown family', { ...LLAMA, model_type: 'mamba9' }, 'mamba9', 'nemotron_h'],
    ['a family that is a property of every object', { ...LLAMA, model_type: 'constructor' }, 'constructor'],
    ['a missing field', without(LLAMA, 'hidden_size'), 'hidden_size', 'nothing'],
    ['a field that is null', { ...MAMBA2, num_heads: null }, 'num_heads'],
    ['a text for a number', { ...LLAMA, hidden_size: '48' }, 'hidden_size', '"48"'],
    ['a fraction for a size', { ...MAMBA2, state_size: 1.5 }, 'state_size', '1.5'],
    ['a negative size', { ...MAMBA2, head_dim: -8 }, 'head_dim', '-8'],
    ['a number for a switch', { ...LLAMA, tie_word_embeddings: 1 }, 'tie_word_embeddings'],
    ['no list of numbers', { ...MAMBA2, time_step_limit: ['0', '1'] }, 'time_step_limit'],
    ['a text for eps', { ...LLAMA, rms_norm_eps: '1e-5' }, 'rms_norm_eps'],
    ['quantized weights', { ...LLAMA, quantization_config: { bits: 4 } }, 'quantization_config', 'absent'],
    ['an unknown activation', { ...LLAMA, hidden_act: 'mish' }, 'hidden_act', 'mish', 'silu'],
    ['an activation named as a property', { ...LLAMA, hidden_act: 'toString' }, 'hidden_act', 'toString'],
    ['another activation in a mixer', { ...MAMBA2, hidden_act: 'gelu' }, 'hidden_act', 'gelu'],
    ['another activation in a mixer of a hybrid', { ...NEMOTRON_H, mamba_hidden_act: 'gelu' }, 'mamba_hidden_act'],
    ['a mixer without its norm', { ...MAMBA2, rms_norm: false }, 'rms_norm'],
    ['an unknown RoPE scaling', { ...LLAMA, rope_scaling: { rope_type: 'ntk', factor: 4 } }, 'rope_type', 'ntk'],
    ['RoPE parameters that are no object', { ...LLAMA, rope_parameters: 'default' }, 'rope_parameters'],
    ['a RoPE scaling without its factor', { ...LLAMA, rope_scaling: { type: 'linear' } }, 'rope_scaling.factor'],
    ['an odd rotary width', { ...LLAMA, head_dim: 5 }, 'head_dim', '5'],
    ['key heads that do not divide', { ...LLAMA, num_key_value_heads: 4 }, 'num_key_value_heads', '4', '6'],
    ['groups that do not divide', { ...MAMBA2, n_groups: 3 }, 'n_groups', '3', '4'],
    ['no pattern', without(NEMOTRON_H, 'hybrid_override_pattern'), 'hybrid_override_pattern'],
    [
      'an unknown letter',
      { ...NEMOTRON_H, hybrid_override_pattern: 'MGM' },
      'hybrid_override_pattern',
      'layer 1',
      "'G'",
    ],
    ['an unknown word', { ...NEMOTRON_H, layers_block_type: ['mamba', 'rnn', 'mlp'] }, 'layers_block_type', "'rnn'"],
    ['a word that is a property', { ...NEMOTRON_H, layers_block_type: ['mamba', 'valueOf', 'mlp'] }, "'valueOf'"],
    ['no layer', { ...NEMOTRON_H, layers_block_type: [], num_hidden_layers: null }, 'layers_block_type', '0 layers'],
    [
      'a pattern of another length',
      { ...NEMOTRON_H, num_hidden_layers: 4 },
      'hybrid_override_pattern',
      '3 layers',
      'num_hidden_layers',
      '4',
    ],
  ];

  it.each(cases)('%s', (_name, config, ...words) => {
    let error: unknown;
    try {
      parseConfig(config);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(UnsupportedModelError);
    if (!(error instanceof UnsupportedModelError)) return;
    for (const word of words) expect(error.message).toContain(word);
    expect(error.hint).not.toBe('');
  });
});
