import { float64, zeros, type Numbers } from '../arrays.ts';

export interface SoftmaxInputs {
  /** (rows, width) */
  readonly x: Numbers;
}

export interface SoftmaxOptions {
  readonly rows: number;
  readonly width: number;
  /** Multiplies x first: the inverse of a sampling temperature; 1 by default. */
  readonly scale?: number | undefined;
}

/**
 * y = exp(scale x - max) / sum(exp(scale x - max)), each row by itself.
 *
 * Shapes: x and y (rows, width). Source: `torch.softmax`.
 */
export function softmax(inputs: SoftmaxInputs, options: SoftmaxOptions): Float64Array {
  const { rows, width, scale = 1 } = options;
  const x = float64('x', inputs.x, rows, width);
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    let largest = -Infinity;
    for (let i = 0; i < width; i++) largest = Math.max(largest, scale * x.at(row * width + i));
    let total = 0;
    for (let i = 0; i < width; i++) total += Math.exp(scale * x.at(row * width + i) - largest);
    for (let i = 0; i < width; i++) y.set(row * width + i, Math.exp(scale * x.at(row * width + i) - largest) / total);
  }
  return y.values;
}
