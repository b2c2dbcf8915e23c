import type { CausalConv1dResult } from './causal_conv1d.ts';
import { shortConv, type ShortConvInputs, type ShortConvOptions } from './short_conv.ts';

/** As `ShortConvOptions`, for one token. */
export type ShortConvStepOptions = Omit<ShortConvOptions, 'length'>;

/** One token of `shortConv`. Shapes: B, C, x and y (B, E), weight (E, K), bias (E), state (B, K - 1, E). */
export function shortConvStep(inputs: ShortConvInputs, options: ShortConvStepOptions): CausalConv1dResult {
  return shortConv(inputs, { ...options, length: 1 });
}
