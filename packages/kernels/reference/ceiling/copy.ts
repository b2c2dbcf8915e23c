import { float64, type Numbers } from '../arrays.ts';

/** y[i] = x[i]. */
export function ceilingCopy(inputs: { readonly x: Numbers }): Float64Array {
  return float64('x', inputs.x, inputs.x.length).values;
}
