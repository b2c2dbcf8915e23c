import { float64, zeros, type Numbers } from '../arrays.ts';

/** y[w, t] = sum over i and c of x[w, i, t, c]; x is (tiles, 32, 256, 4), y is (tiles, 256). */
export function ceilingRead(inputs: { readonly x: Numbers }): Float64Array {
  const tiles = inputs.x.length / (32 * 256 * 4);
  const x = float64('x', inputs.x, tiles, 32, 256, 4);
  const y = zeros(tiles * 256);
  for (let tile = 0; tile < tiles; tile++) {
    for (let i = 0; i < 32; i++) {
      for (let t = 0; t < 256; t++) {
        for (let c = 0; c < 4; c++) y.add(tile * 256 + t, x.at(((tile * 32 + i) * 256 + t) * 4 + c));
      }
    }
  }
  return y.values;
}
