import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';
import { readWindows } from './transformer.ts';

/**
 * SmolLM3: Llama, some of whose layers have no positions. `no_rope_layers` holds a number a layer, 1 where queries and
 * keys turn; without it, every layer that `no_rope_layer_interval` divides, counted from 1, goes without. Where
 * `use_sliding_window` is true, `layer_types` says which layers have a window, or those without positions.
 */
export function parseSmolLM3(config: ConfigReader): ParsedModel {
  const all = config.withDefaults({ num_key_value_heads: 4, max_position_embeddings: 32_768, rope_theta: 2e6 });
  const turns = readTurns(all);
  const window = all.boolean('use_sliding_window', false) ? all.optionalSize('sliding_window') : undefined;
  const windows = readWindows(all, window, (layer) => window !== undefined && turns[layer] === false);
  return llamaLike(all, 'smollm3', {
    attention: ({ rotary, ...attention }, index) => ({
      ...attention,
      ...(turns[index] === true && rotary && { rotary }),
      ...windows[index],
    }),
    tiedEmbeddings: true,
  });
}

/** Whether each layer has positions. */
function readTurns(config: ConfigReader): readonly boolean[] {
  const count = config.size('num_hidden_layers');
  const interval = config.size('no_rope_layer_interval', 4);
  const listed = config.numbers('no_rope_layers');
  if (listed === undefined) return Array.from({ length: count }, (_, layer) => (layer + 1) % interval !== 0);
  if (listed.length < count || listed.some((value) => value !== 0 && value !== 1)) {
    throw new UnsupportedModelError(
      `config.json: 'no_rope_layers' must hold 0 or 1 for each of ${count} layers; found ${JSON.stringify(listed)}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  return listed.map((value) => value === 1);
}
