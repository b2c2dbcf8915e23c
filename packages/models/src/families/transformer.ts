import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { AttentionSpec, MlpSpec } from '../spec/model_spec.ts';
import type { RotaryDefaults } from '../spec/rotary.ts';
import { readRotary } from '../spec/rotary.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import type { MlpNames } from '../spec/weights/mlp.ts';

// What configurations and checkpoints of Transformers have in common, for the families that follow Llama's fields.

/**
 * Sizes of the heads: `num_attention_heads`, `num_key_value_heads`, `head_dim`.
 *
 * @throws UnsupportedModelError without `head_dim`, if the heads do not divide `hidden_size`
 */
export function readHeads(config: ConfigReader): Pick<AttentionSpec, 'heads' | 'kvHeads' | 'headDim'> {
  const heads = config.size('num_attention_heads');
  const headDim = config.optionalSize('head_dim') ?? divideHeads(config, 'num_attention_heads', 'hidden_size');
  return { heads, kvHeads: config.size('num_key_value_heads', heads), headDim };
}

/** Values of a head, where all heads together are as wide as the model. @throws UnsupportedModelError if they are not */
export function divideHeads(config: ConfigReader, headsField: string, widthField: string): number {
  const [heads, width] = [config.size(headsField), config.size(widthField)];
  if (width % heads === 0) return width / heads;
  throw new UnsupportedModelError(
    `config.json: '${headsField}' (${heads}) must divide '${widthField}' (${width}).`,
    'Check that the configuration belongs to this model.',
  );
}

/** Attention with RoPE as Llama configures it, one bias switch for all four projections. */
export function readAttention(config: ConfigReader, rotary: RotaryDefaults = {}): AttentionSpec {
  const heads = readHeads(config);
  const bias = config.boolean('attention_bias', false);
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    kind: 'attention',
    ...heads,
    rotary: readRotary(config, heads.headDim, { contextLength, ...rotary }),
    qkvBias: bias,
    outputBias: bias,
  };
}

type AttentionLayer = 'full' | 'sliding';
const ATTENTION_LAYERS: Readonly<Record<string, AttentionLayer>> = {
  full_attention: 'full',
  sliding_attention: 'sliding',
};

/**
 * The window of every layer: that of `sliding_window` for those that `layer_types` calls 'sliding_attention', or without
 * such a list, for those that `isSliding` names.
 *
 * @param window of the configuration; undefined where it is null or switched off
 * @throws UnsupportedModelError if a layer slides and there is no window
 */
export function readWindows(
  config: ConfigReader,
  window: number | undefined,
  isSliding: (layer: number) => boolean,
): readonly Pick<AttentionSpec, 'window'>[] {
  const kinds =
    readLayerKinds(config, 'layer_types', ATTENTION_LAYERS) ??
    Array.from({ length: config.size('num_hidden_layers') }, (_, layer) => (isSliding(layer) ? 'sliding' : 'full'));
  return kinds.map((kind, layer) => {
    if (kind === 'full') return {};
    if (window !== undefined) return { window };
    throw new UnsupportedModelError(
      `config.json: layer ${layer} slides ('layer_types'), and 'sliding_window' is null or 'use_sliding_window' false.`,
      'Check that the configuration belongs to this model.',
    );
  });
}

/** A gated feed-forward layer: `intermediate_size`, `hidden_act`, `mlp_bias`. */
export function readGatedMlp(config: ConfigReader): MlpSpec {
  return {
    kind: 'mlp',
    intermediateSize: config.size('intermediate_size'),
    activation: readActivation(config, 'hidden_act', 'silu'),
    gated: true,
    bias: config.boolean('mlp_bias', false),
  };
}

/** Names of separate projections of queries, keys, values and the output. */
export function attentionNames(
  prefix: string,
  output: string = 'o_proj',
): AttentionNames & Readonly<Record<'query' | 'key' | 'value' | 'output', string>> {
  return {
    kind: 'attention',
    query: `${prefix}.q_proj`,
    key: `${prefix}.k_proj`,
    value: `${prefix}.v_proj`,
    output: `${prefix}.${output}`,
  };
}

export function gatedMlpNames(prefix: string): MlpNames & Readonly<Record<'gate' | 'up' | 'down', string>> {
  return { kind: 'mlp', gate: `${prefix}.gate_proj`, up: `${prefix}.up_proj`, down: `${prefix}.down_proj` };
}

/** Names outside of the layers. */
export const DECODER_NAMES = { embedding: 'model.embed_tokens', finalNorm: 'model.norm', head: 'lm_head' } as const;

/** Frequencies that older versions of the library stored though they follow from the configuration. */
export const STORED_FREQUENCIES: RegExp = /\.rotary_emb\.inv_freq$/;

/**
 * The kind of every layer from a list of words, old or new.
 *
 * @throws UnsupportedModelError for an unknown word, or a list that is not as long as `num_hidden_layers` says
 */
export function readLayerKinds<Kind extends string>(
  config: ConfigReader,
  field: string,
  words: Readonly<Record<string, Kind>>,
  symbols: readonly string[] | undefined = config.strings(field),
): readonly Kind[] | undefined {
  if (symbols === undefined) return undefined;
  const kinds = symbols.map((symbol, index) => {
    const kind = Object.hasOwn(words, symbol) ? words[symbol] : undefined;
    if (kind !== undefined) return kind;
    throw new UnsupportedModelError(
      `config.json: layer ${index} of '${field}' is of kind '${symbol}', which this version does not run.`,
      `Supported are: ${Object.keys(words).join(' ')}.`,
    );
  });
  const declared = config.optionalSize('num_hidden_layers');
  if (kinds.length === 0 || (declared !== undefined && declared !== kinds.length)) {
    throw new UnsupportedModelError(
      `config.json: '${field}' names ${kinds.length} layers and 'num_hidden_layers' is ${declared ?? 'absent'}.`,
      'Both must agree.',
    );
  }
  return kinds;
}
