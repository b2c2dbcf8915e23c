import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';
import { readWindows } from './transformer.ts';

/** What configurations of Qwen2 and Qwen3 leave out. */
export const QWEN_DEFAULTS = { sliding_window: 4096, max_window_layers: 28, max_position_embeddings: 32_768 } as const;

/**
 * Qwen2: Llama with biases of queries, keys and values, and of nothing else, whatever the configuration says. Windows
 * are those of {@link readQwenWindows}.
 */
export function parseQwen2(config: ConfigReader): ParsedModel {
  const all = config.withDefaults(QWEN_DEFAULTS);
  all.refuse('attention_bias', [true]);
  all.refuse('mlp_bias', [false]);
  const windows = readQwenWindows(all);
  return llamaLike(all, 'qwen2', {
    attention: (attention, index) => ({ ...attention, ...windows[index], qkvBias: true, outputBias: false }),
  });
}

/**
 * Windows by layer: none unless `use_sliding_window` is true; then `layer_types` says which layers have one, or those
 * from `max_window_layers` on. (The first layers are the full ones: the documentation of older versions of the library
 * said the opposite of what its code did.)
 */
export function readQwenWindows(config: ConfigReader): readonly { readonly window?: number }[] {
  const window = config.boolean('use_sliding_window', false) ? config.optionalSize('sliding_window') : undefined;
  const first = config.number('max_window_layers', QWEN_DEFAULTS.max_window_layers);
  return readWindows(config, window, (layer) => window !== undefined && layer >= first);
}
