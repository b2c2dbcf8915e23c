import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface LayerNormInputs {
  /** (rows, width) */
  readonly x: Numbers;
  /** (width) */
  readonly weight?: Numbers | undefined;
  /** (width) */
  readonly bias?: Numbers | undefined;
}

export interface LayerNormOptions {
  readonly rows: number;
  readonly width: number;
  readonly eps: number;
  /** Added to every weight: 1 for LayerNorm-1P, which stores the weight minus 1; 0 by default. */
  readonly weightOffset?: number | undefined;
}

/**
 * y = (x - mean) / sqrt(variance + eps) * (weight + weightOffset) + bias, each row by itself, variance over `width`.
 *
 * Shapes: x and y (rows, width), weight and bias (width). Source: `torch.nn.functional.layer_norm`; without a weight
 * its factor is 1 whatever the offset.
 */
export function layerNorm(inputs: LayerNormInputs, options: LayerNormOptions): Float64Array {
  const { rows, width, eps, weightOffset = 0 } = options;
  const x = float64('x', inputs.x, rows, width);
  const weight = optionalFloat64('weight', inputs.weight, width);
  const bias = optionalFloat64('bias', inputs.bias, width);
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x.at(row * width + i);
    const mean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (x.at(row * width + i) - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) {
      const factor = weight === undefined ? 1 : weight.at(i) + weightOffset;
      const shift = bias === undefined ? 0 : bias.at(i);
      y.set(row * width + i, (x.at(row * width + i) - mean) * inverse * factor + shift);
    }
  }
  return y.values;
}
