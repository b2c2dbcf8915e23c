import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface RmsNormInputs {
  /** (rows, width) */
  readonly x: Numbers;
  /** (width) */
  readonly weight?: Numbers | undefined;
  /** (rows, width), added to x first */
  readonly residual?: Numbers | undefined;
  /** (rows, width), added to the result */
  readonly addTo?: Numbers | undefined;
}

export interface RmsNormOptions {
  readonly rows: number;
  readonly width: number;
  readonly eps: number;
  /** Added to every weight: 1 for checkpoints that store the weight minus 1; 0 by default. */
  readonly weightOffset?: number | undefined;
}

/**
 * y = addTo + u / sqrt(mean(u^2) + eps) * (weight + weightOffset), u = x or residual + x, each row by itself.
 *
 * Shapes: x, residual, addTo and y (rows, width), weight (width). Source: `torch.nn.functional.rms_norm`; without a weight its factor
 * is 1 whatever the offset.
 */
export function rmsNorm(inputs: RmsNormInputs, options: RmsNormOptions): Float64Array {
  const { rows, width, eps, weightOffset = 0 } = options;
  const x = float64('x', inputs.x, rows, width);
  const weight = optionalFloat64('weight', inputs.weight, width);
  const residual = optionalFloat64('residual', inputs.residual, rows, width);
  const addTo = optionalFloat64('addTo', inputs.addTo, rows, width);
  if (residual !== undefined) for (let i = 0; i < rows * width; i++) x.add(i, residual.at(i));
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x.at(row * width + i) ** 2;
    const inverse = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) {
      const factor = weight === undefined ? 1 : weight.at(i) + weightOffset;
      y.set(row * width + i, (addTo?.at(row * width + i) ?? 0) + x.at(row * width + i) * inverse * factor);
    }
  }
  return y.values;
}
