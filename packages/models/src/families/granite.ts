import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';

/**
 * Granite: Llama with four factors. `embedding_multiplier` is of the embeddings, `residual_multiplier` of what a block
 * adds, its bias included; `attention_multiplier` replaces 1 / sqrt(headDim), and logits are divided by
 * `logits_scaling`. All are 1 where the configuration does not say.
 */
export function parseGranite(config: ConfigReader): ParsedModel {
  const outputScale = config.number('residual_multiplier', 1);
  const { spec, names } = llamaLike(config, 'granite', {
    attention: (attention) => ({ ...attention, scale: config.number('attention_multiplier', 1), outputScale }),
    mlp: (mlp) => ({ ...mlp, outputScale }),
  });
  const embeddingScale = config.number('embedding_multiplier', 1);
  return { spec: { ...spec, embeddingScale, logitScale: 1 / config.positive('logits_scaling', 1) }, names };
}
