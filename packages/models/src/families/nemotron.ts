import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { MlpSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';

/**
 * Nemotron, and with it the Transformer of arXiv 2406.07887: Llama's layers with LayerNorm-1P (mean and variance, with a
 * bias, the weight stored minus 1), a feed-forward layer without a gate (squared ReLU), and RoPE on the first half of
 * each head where the configuration says nothing.
 */
export function parseNemotron(config: ConfigReader): ParsedModel {
  const all = config.withDefaults({ partial_rotary_factor: 0.5, max_position_embeddings: 4096 });
  const activation = readActivation(all, 'hidden_act', 'relu2');
  return llamaLike(all, 'nemotron', {
    mlp: (mlp): MlpSpec => ({ ...mlp, activation, gated: false }),
    mlpNames: (prefix) => ({ kind: 'mlp', up: `${prefix}.up_proj`, down: `${prefix}.down_proj` }),
    norm: { kind: 'layer', eps: all.number('norm_eps', 1e-5), weightOffset: 1 },
  });
}
