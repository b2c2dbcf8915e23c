import type { Numbers } from '../arrays.ts';
import { flashAttention, type FlashAttentionInputs, type FlashAttentionOptions } from './flash_attention.ts';

export interface AttentionStepInputs extends Omit<FlashAttentionInputs, 'position'> {
  /** (B), index of the token's own key, the last that it sees */
  readonly position: Numbers;
}

export type AttentionStepOptions = Omit<FlashAttentionOptions, 'length' | 'causal'>;

/** `flashAttention` of one token. Shapes: q and y (B, H, P), k and v (B, T, Hkv, P). */
export function attentionStep(inputs: AttentionStepInputs, options: AttentionStepOptions): Float64Array {
  return flashAttention(inputs, { ...options, length: 1 });
}
