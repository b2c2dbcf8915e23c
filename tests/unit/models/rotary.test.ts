import { ropeAttentionFactor, ropeInverseFrequencies } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { ConfigReader } from '../../../packages/models/src/spec/config.ts';
import type { RotaryDefaults } from '../../../packages/models/src/spec/rotary.ts';
import { readRotary } from '../../../packages/models/src/spec/rotary.ts';
import { readFixture } from '../../support/fixtures.ts';
import { expectClose } from '../../support/numbers.ts';
import type { Config } from './configs.ts';

interface Fixture {
  readonly maxPositionEmbeddings: number;
  readonly headDim: number;
  readonly cases: readonly {
    readonly parameters: Config;
    readonly frequencies: readonly number[];
    readonly attentionFactor: number;
  }[];
}

const { maxPositionEmbeddings: contextLength, headDim, cases } = readFixture<Fixture>('models/variants/rotary.json');

/** Frequencies, and the factor of what turns, for a context of the model's own length. */
function rotaryOf(config: Config, defaults: RotaryDefaults = {}): { frequencies: Float32Array; factor: number } {
  const { dim, theta, scaling } = readRotary(new ConfigReader(config), headDim, { contextLength, ...defaults });
  const frequencies = ropeInverseFrequencies({ theta, rotaryDim: dim, ...(scaling && { scaling }) });
  return { frequencies, factor: ropeAttentionFactor(scaling) };
}

describe.each(cases)('RoPE with $parameters', ({ parameters, frequencies, attentionFactor }) => {
  const { rope_theta: theta, rope_type: type, original_max_position_embeddings: original, ...others } = parameters;
  const scaling = { ...others, ...(original !== undefined && { original_max_position_embeddings: original }) };

  it.each<[string, Config]>([
    ['current fields', { rope_parameters: parameters }],
    ['older fields', { rope_theta: theta, rope_scaling: { ...scaling, rope_type: type } }],
    ['still older fields', { rope_theta: theta, rope_scaling: { ...scaling, type } }],
    [
      'the original length beside them, which counts more',
      {
        rope_parameters: { ...parameters, original_max_position_embeddings: 77 },
        original_max_position_embeddings: original ?? contextLength,
      },
    ],
  ])('is that of transformers, from %s', (_name, config) => {
    const rotary = rotaryOf({ ...config, max_position_embeddings: contextLength });
    // Its powers are float32.
    expectClose(rotary.frequencies, frequencies, { rtol: 2e-6, atol: 0 });
    expectClose([rotary.factor], [attentionFactor], { rtol: 1e-12, atol: 0 });
  });
});

describe('a part of a head', () => {
  // Of transformers' default frequencies: theta^(-2 i / part).
  it.each([
    [1, 16],
    [0.5, 8],
    [0.45, 7],
    [0.2, 3],
    [0.1, 1],
  ])('of %f turns %i values, the last pair with one value more', (partial, part) => {
    const { frequencies } = rotaryOf({ partial_rotary_factor: partial, rope_theta: 500 });
    const expected = Array.from({ length: Math.ceil(part / 2) }, (_, i) => 500 ** ((-2 * i) / part));
    expectClose(frequencies, expected, { rtol: 1e-6, atol: 0 });
  });

  it('takes scalings of frequencies as such', () => {
    const partial = { partial_rotary_factor: 0.45, rope_theta: 500 };
    const scaled = rotaryOf({ ...partial, rope_scaling: { type: 'linear', factor: 4 } });
    const plain = rotaryOf(partial);
    expectClose(
      scaled.frequencies,
      plain.frequencies.map((frequency) => frequency / 4),
      { rtol: 1e-6, atol: 0 },
    );
  });
});

it('fields of a type of layers count for it alone', () => {
  const config = new ConfigReader({
    rope_parameters: { near: { rope_theta: 100 }, far: { rope_type: 'linear', factor: 2 }, none: null },
    rope_theta: 300,
    near_base: 200,
  });
  const of = (layerType: string, defaults: RotaryDefaults = {}): unknown =>
    readRotary(config, headDim, { layerType, ...defaults });
  expect(of('near')).toEqual({ dim: 16, theta: 100 });
  expect(of('far')).toEqual({ dim: 16, theta: 300, scaling: { type: 'linear', factor: 2 } });
  expect(of('far', { fields: { theta: 'near_base' } })).toMatchObject({ theta: 200 });
  expect(of('none')).toEqual({ dim: 16, theta: 300 });
});
