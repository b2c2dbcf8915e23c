import { float64, type Numbers, type Reals } from '../arrays.ts';
import { causalConv1d, type CausalConv1dResult } from './causal_conv1d.ts';

export interface ShortConvInputs {
  /** (B, L, E), the gate before the filter */
  readonly B: Numbers;
  /** (B, L, E), the gate after the filter */
  readonly C: Numbers;
  /** (B, L, E) */
  readonly x: Numbers;
  /** (E, K); tap K - 1 multiplies the current token */
  readonly weight: Numbers;
  /** (E) */
  readonly bias?: Numbers | undefined;
  /** (B, K - 1, E), the products B x before the first token, oldest first; zeros when left out */
  readonly state?: Numbers | undefined;
}

export interface ShortConvOptions {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
}

/** y = C * causalConv1d(B * x), elementwise gates; the state holds products. Source: `Lfm2ShortConv` of transformers. */
export function shortConv(inputs: ShortConvInputs, options: ShortConvOptions): CausalConv1dResult {
  const { batch, length, channels } = options;
  const get = (name: 'B' | 'C' | 'x'): Reals => float64(name, inputs[name], batch, length, channels);
  const [B, C] = [get('B'), get('C')];
  const gated = get('x').values.map((value, i) => value * B.at(i));
  const { weight, bias, state } = inputs;
  const result = causalConv1d({ x: gated, weight, bias, state }, options);
  return { y: result.y.map((value, i) => value * C.at(i)), state: result.state };
}
