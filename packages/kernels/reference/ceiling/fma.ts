import { float64, zeros, type Numbers } from '../arrays.ts';

export interface CeilingFmaOptions {
  readonly iterations: number;
  readonly scale: number;
  readonly shift: number;
}

/** y[i] = the sum of 8 times 4 values that begin as x[i] + (k + c) / 8 and are iterated as v * scale + shift. */
export function ceilingFma(inputs: { readonly x: Numbers }, options: CeilingFmaOptions): Float64Array {
  const { iterations, scale, shift } = options;
  const count = inputs.x.length;
  const x = float64('x', inputs.x, count);
  const y = zeros(count);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 8; k++) {
      for (let c = 0; c < 4; c++) {
        let v = x.at(i) + (k + c) / 8;
        for (let n = 0; n < iterations; n++) v = v * scale + shift;
        y.add(i, v);
      }
    }
  }
  return y.values;
}
