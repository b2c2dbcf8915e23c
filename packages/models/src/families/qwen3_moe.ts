import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { expertNames, readExperts, readSparseLayers } from './experts.ts';
import { llamaLike } from './llama.ts';
import { readQwenWindows } from './qwen2.ts';
import { gatedMlpNames } from './transformer.ts';

/**
 * Qwen3 with experts: softmax over all of them, then the best ones, whose weights are divided by their sum where
 * `norm_topk_prob` says so (it does not unless it is there). Every `decoder_sparse_step`th layer has experts, but for
 * `mlp_only_layers`; the others have a feed-forward layer. A window is of all layers.
 */
export function parseQwen3Moe(config: ConfigReader): ParsedModel {
  const all = config.withDefaults({ sliding_window: 4096, max_window_layers: 0, max_position_embeddings: 32_768 });
  all.refuse('mlp_bias', [false]);
  const qkNorm = { eps: all.number('rms_norm_eps', 1e-6), weightOffset: 0, over: 'head' } as const;
  const windows = readQwenWindows(all);
  const moe = readExperts(all, all.boolean('norm_topk_prob', false));
  const isSparse = readSparseLayers(all);
  const hiddenSize = all.size('hidden_size');
  return llamaLike(all, 'qwen3_moe', {
    attention: (attention, index) => ({ ...attention, ...windows[index], qkNorm }),
    attentionNames: (prefix) => ({ queryNorm: `${prefix}.q_norm`, keyNorm: `${prefix}.k_norm` }),
    mlp: (mlp, index) => (moe !== undefined && isSparse(index) ? moe : mlp),
    mlpNames: (prefix, index) =>
      moe !== undefined && isSparse(index) ? expertNames(prefix, moe, hiddenSize) : gatedMlpNames(prefix),
  });
}
