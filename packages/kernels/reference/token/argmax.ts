import { float64, type Numbers } from '../arrays.ts';

export interface ArgmaxInputs {
  /** (rows, width) */
  readonly x: Numbers;
}

export interface ArgmaxOptions {
  readonly rows: number;
  /** V for logits */
  readonly width: number;
}

/**
 * The index of the largest element of each row, the first one on ties; a NaN is never the largest.
 *
 * Shapes: x (rows, width), result (rows). Source: `torch.argmax`, but for rows with NaN.
 */
export function argmax(inputs: ArgmaxInputs, options: ArgmaxOptions): Int32Array {
  const { rows, width } = options;
  const x = float64('x', inputs.x, rows, width);
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = 0;
    let largest = -Infinity;
    for (let i = 0; i < width; i++) {
      if (x.at(row * width + i) > largest) {
        best = i;
        largest = x.at(row * width + i);
      }
    }
    return best;
  });
}
