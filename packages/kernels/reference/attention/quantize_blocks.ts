import { Reals, type Numbers } from '../arrays.ts';

/** Values of a block that share a scale. */
const BLOCK = 32;

/**
 * What a q8 cache keeps of values: of every 32 the scale is largest / 127, rounded to a half-precision number, and a
 * value becomes the nearest multiple of the scale from -127 to 127; of two as near, the larger one.
 *
 * Shapes: (blocks * 32). Source: the blocks `q8_0` of llama.cpp, here with quants that suit the rounded scale.
 */
export function quantizeBlocks(inputs: { readonly x: Numbers }): Float64Array {
  const x = new Reals(Float64Array.from(inputs.x));
  const y = new Reals(new Float64Array(x.values.length));
  for (let start = 0; start < x.values.length; start += BLOCK) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(x.at(start + i)));
    const scale = nearestHalf(Math.min(largest / 127, 65504));
    for (let i = 0; i < BLOCK; i++) {
      const quant = scale === 0 ? 0 : Math.min(Math.floor(Math.abs(x.at(start + i)) / scale + 0.5), 127);
      y.set(start + i, Math.sign(x.at(start + i)) * quant * scale);
    }
  }
  return y.values;
}

/** Nearest number with 11 bits, or multiple of 2^-24; ties to even. For 0 <= x <= 65504. */
function nearestHalf(x: number): number {
  const unit = 2 ** Math.max(Math.floor(Math.log2(Math.max(x, 2 ** -14))) - 10, -24);
  const whole = Math.floor(x / unit);
  const rest = x / unit - whole;
  return unit * (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0));
}
