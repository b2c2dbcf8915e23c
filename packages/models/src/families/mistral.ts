import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';

/**
 * Mistral: Llama without biases, all of whose layers see the last `sliding_window` keys, a query's own included. Null is
 * no window, as in newer models; an absent field is the first model's window of 4096.
 */
export function parseMistral(config: ConfigReader): ParsedModel {
  const all = config.withDefaults({ sliding_window: 4096, num_key_value_heads: 8, max_position_embeddings: 131_072 });
  // Layers of different kinds are another family (ministral): this one has no say in them.
  all.refuse('layer_types', []);
  for (const name of ['attention_bias', 'mlp_bias']) all.refuse(name, [false]);
  const window = all.optionalSize('sliding_window');
  return llamaLike(all, 'mistral', {
    attention: (attention) => ({ ...attention, ...(window !== undefined && { window }) }),
  });
}
