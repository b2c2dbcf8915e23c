import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { llamaLike } from './llama.ts';
import { QWEN_DEFAULTS, readQwenWindows } from './qwen2.ts';

/**
 * Qwen3: no bias unless `attention_bias` asks for those of all four projections, and norms of each head of queries and
 * keys before they turn, with one weight for all heads. Heads have 128 values where the configuration says nothing.
 */
export function parseQwen3(config: ConfigReader): ParsedModel {
  const all = config.withDefaults({ ...QWEN_DEFAULTS, head_dim: 128 });
  all.refuse('mlp_bias', [false]);
  const windows = readQwenWindows(all);
  const qkNorm = { eps: all.number('rms_norm_eps', 1e-6), weightOffset: 0, over: 'head' } as const;
  return llamaLike(all, 'qwen3', {
    attention: (attention, index) => ({ ...attention, ...windows[index], qkNorm }),
    attentionNames: (prefix) => ({ queryNorm: `${prefix}.q_norm`, keyNorm: `${prefix}.k_norm` }),
  });
}
