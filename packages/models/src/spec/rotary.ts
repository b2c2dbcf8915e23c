import { ropeAttentionFactor, UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from './config.ts';
import type { RotaryScaling, RotarySpec } from './model_spec.ts';

/** What a family knows of its positions beside the configuration. */
export interface RotaryDefaults {
  readonly theta?: number;
  /** Part of a head that turns where the configuration does not say; 1 when absent. */
  readonly partial?: number;
  /** Tokens that the model was made for: some scalings depend on it. */
  readonly contextLength?: number | undefined;
  /** Which entry of `rope_parameters`, where there is one for each type of layer. */
  readonly layerType?: string;
}

/**
 * RoPE from `rope_parameters` (current) or `rope_theta`, `rope_scaling` and `partial_rotary_factor` (older
 * configurations).
 *
 * @throws UnsupportedModelError for a scaling that no kernel computes, or a part of a head that cannot turn
 */
export function readRotary(config: ConfigReader, headDim: number, defaults: RotaryDefaults = {}): RotarySpec {
  const { theta = 10_000, partial = 1, layerType } = defaults;
  const whole = config.object('rope_parameters');
  const current = layerType !== undefined && whole.raw(layerType) !== undefined ? whole.object(layerType) : whole;
  const older = config.object('rope_scaling');
  const parameters = config.raw('rope_parameters') === undefined ? older : current;
  const scaling = readScaling(parameters, config, defaults.contextLength);
  const factor = current.number('partial_rotary_factor', config.number('partial_rotary_factor', partial));
  const dim = Math.floor(headDim * factor);
  if (dim < 2 || dim % 2 !== 0 || dim > headDim) {
    throw new UnsupportedModelError(
      `config.json: RoPE turns pairs of values; 'head_dim' and 'partial_rotary_factor' give it ${dim}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  if (dim !== headDim && ropeAttentionFactor(scaling) !== 1) {
    throw new UnsupportedModelError(
      "config.json: 'rope_type' scales rotated values, and 'partial_rotary_factor' leaves others as they are.",
      'No kernel computes both together.',
    );
  }
  return {
    dim,
    theta: current.number('rope_theta', config.number('rope_theta', theta)),
    ...(scaling === undefined ? {} : { scaling }),
  };
}

function readScaling(
  parameters: ConfigReader,
  config: ConfigReader,
  contextLength: number | undefined,
): RotaryScaling | undefined {
  const kind = parameters.string('rope_type', parameters.string('type', 'default'));
  const originalContextLength = (): number =>
    parameters.size('original_max_position_embeddings', config.optionalSize('original_max_position_embeddings'));
  const optional = (field: string, name: string): Readonly<Record<string, number>> =>
    parameters.raw(field) === undefined ? {} : { [name]: parameters.number(field) };
  switch (kind) {
    case 'default':
      return undefined;
    case 'linear':
      return { type: 'linear', factor: parameters.number('factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: parameters.number('factor'),
        lowFrequencyFactor: parameters.number('low_freq_factor'),
        highFrequencyFactor: parameters.number('high_freq_factor'),
        originalContextLength: originalContextLength(),
      };
    case 'yarn':
      return {
        type: 'yarn',
        factor: parameters.number('factor'),
        originalContextLength: parameters.size(
          'original_max_position_embeddings',
          config.optionalSize('original_max_position_embeddings') ?? contextLength,
        ),
        truncate: parameters.boolean('truncate', true),
        ...optional('beta_fast', 'fastTurns'),
        ...optional('beta_slow', 'slowTurns'),
        ...optional('attention_factor', 'attentionFactor'),
        ...optional('mscale', 'mscale'),
        ...optional('mscale_all_dim', 'mscaleAllDim'),
      };
    case 'dynamic': {
      const original = parameters.size(
        'original_max_position_embeddings',
        config.optionalSize('original_max_position_embeddings') ?? contextLength,
      );
      return {
        type: 'dynamic',
        factor: parameters.number('factor'),
        originalContextLength: original,
        contextLength: Math.max(original, contextLength ?? original),
      };
    }
    case 'longrope': {
      const original = originalContextLength();
      const longest = Math.max(original, contextLength ?? original);
      return {
        type: 'longrope',
        factor: parameters.number('factor', longest / original),
        shortFactors: requireNumbers(parameters, 'short_factor'),
        longFactors: requireNumbers(parameters, 'long_factor'),
        originalContextLength: original,
        contextLength: longest,
        ...optional('attention_factor', 'attentionFactor'),
      };
    }
    default:
      throw new UnsupportedModelError(
        `config.json: 'rope_type' is '${kind}', a scaling that no kernel computes.`,
        'Supported are: default, linear, dynamic, llama3, yarn, longrope.',
      );
  }
}

function requireNumbers(parameters: ConfigReader, field: string): readonly number[] {
  const numbers = parameters.numbers(field);
  if (numbers !== undefined) return numbers;
  throw new UnsupportedModelError(
    `config.json: 'rope_type' is 'longrope' and '${field}' is absent.`,
    'Check that the configuration belongs to this model.',
  );
}
