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
  /** Fields of older configurations, where they are not `rope_theta` and `partial_rotary_factor`. */
  readonly fields?: { readonly theta?: string; readonly partial?: string };
  /** Whether `rope_scaling` of older configurations is of these layers; true when absent. */
  readonly scaled?: boolean;
}

/**
 * RoPE from `rope_parameters` (current) or `rope_theta`, `rope_scaling` and `partial_rotary_factor` (older
 * configurations). Where the part of a head that turns is odd, the last pair takes one value more, as in transformers:
 * values i and i + ceil(part / 2) turn by the powers -2 i / part of theta.
 *
 * Dynamic and LongRoPE frequencies change with the length of the text in transformers; here they are those of the
 * context length that a model is loaded with, from its first token to its last.
 *
 * @throws UnsupportedModelError for a scaling that no kernel computes, or a part of a head that cannot turn
 */
export function readRotary(config: ConfigReader, headDim: number, defaults: RotaryDefaults = {}): RotarySpec {
  const { theta = 10_000, partial = 1, layerType, fields, scaled = true } = defaults;
  const whole = config.object('rope_parameters');
  const current = layerType !== undefined && whole.raw(layerType) !== undefined ? whole.object(layerType) : whole;
  const isCurrent = config.raw('rope_parameters') !== undefined;
  const parameters = !isCurrent && scaled ? config.object('rope_scaling') : current;
  const scaling = readScaling(parameters, config, defaults.contextLength);
  const older = fields?.partial ?? 'partial_rotary_factor';
  const factor = parameters.number('partial_rotary_factor', config.number(older, partial));
  const part = Math.floor(headDim * factor);
  const dim = 2 * Math.ceil(part / 2);
  if (part < 1 || dim > headDim) {
    throw new UnsupportedModelError(
      `config.json: RoPE turns pairs of values; 'head_dim' (${headDim}) and '${older}' (${factor}) give it ${part}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  if (part !== headDim && ropeAttentionFactor(scaling) !== 1) {
    throw new UnsupportedModelError(
      `config.json: 'rope_type' scales rotated values, and '${older}' leaves others as they are.`,
      'No kernel computes both together.',
    );
  }
  if (part !== dim && scaling !== undefined && !BY_FREQUENCY.includes(scaling.type)) {
    throw new UnsupportedModelError(
      `config.json: 'rope_type' is '${scaling.type}' and '${older}' makes an odd number of values turn (${part}).`,
      'No kernel computes both together.',
    );
  }
  const base = parameters.positive('rope_theta', config.number(fields?.theta ?? 'rope_theta', theta));
  return {
    dim,
    // Powers of this base with one value more are those of the other with an odd number of values.
    theta: part === dim ? base : base ** (dim / part),
    ...(scaling === undefined ? {} : { scaling }),
  };
}

/** Scalings that take a frequency for what it is, whatever its index. */
const BY_FREQUENCY: readonly RotaryScaling['type'][] = ['linear', 'llama3'];

function readScaling(
  parameters: ConfigReader,
  config: ConfigReader,
  contextLength: number | undefined,
): RotaryScaling | undefined {
  const kind = parameters.string('rope_type', parameters.string('type', 'default'));
  // Beside the parameters it counts more than among them, as in transformers.
  const originalContextLength = (): number =>
    config.optionalSize('original_max_position_embeddings') ??
    parameters.size('original_max_position_embeddings', contextLength);
  const optional = (field: string, name: string): Readonly<Record<string, number>> =>
    parameters.raw(field) === undefined ? {} : { [name]: parameters.number(field) };
  switch (kind) {
    case 'default':
      return undefined;
    case 'linear':
      return { type: 'linear', factor: parameters.positive('factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: parameters.positive('factor'),
        lowFrequencyFactor: parameters.number('low_freq_factor'),
        highFrequencyFactor: parameters.number('high_freq_factor'),
        originalContextLength: originalContextLength(),
      };
    case 'yarn':
      return {
        type: 'yarn',
        factor: parameters.positive('factor', contextLength && contextLength / originalContextLength()),
        originalContextLength: originalContextLength(),
        truncate: parameters.boolean('truncate', true),
        ...optional('beta_fast', 'fastTurns'),
        ...optional('beta_slow', 'slowTurns'),
        ...optional('attention_factor', 'attentionFactor'),
        ...optional('mscale', 'mscale'),
        ...optional('mscale_all_dim', 'mscaleAllDim'),
      };
    case 'dynamic': {
      // The class of transformers reads no other length for it.
      const length = config.size('max_position_embeddings', contextLength);
      return {
        type: 'dynamic',
        factor: parameters.positive('factor'),
        originalContextLength: length,
        contextLength: length,
      };
    }
    case 'longrope': {
      const original = originalContextLength();
      const longest = Math.max(original, contextLength ?? original);
      return {
        type: 'longrope',
        factor: parameters.positive('factor', longest / original),
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
