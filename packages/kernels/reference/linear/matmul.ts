import { activate, type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';
import { rmsNorm } from '../norm/rms_norm.ts';

export interface MatmulInputs {
  /** (rows, inner) */
  readonly x: Numbers;
  /** (outputs, inner), the layout of a checkpoint's linear layer */
  readonly weight: Numbers;
  /** (inner), the RMS norm of x; left out for an x that is normalised */
  readonly normWeight?: Numbers | undefined;
  /** (outputs) */
  readonly bias?: Numbers | undefined;
  /** (rows, outputs) */
  readonly residual?: Numbers | undefined;
}

export interface MatmulOptions {
  readonly rows: number;
  readonly inner: number;
  readonly outputs: number;
  readonly activation?: Activation | undefined;
  /** Multiplies the activated product, not the residual; 1 by default. */
  readonly scale?: number | undefined;
  /** 1e-5 by default. */
  readonly normEps?: number | undefined;
  /** Added to every `normWeight`; 0 by default. */
  readonly normWeightOffset?: number | undefined;
}

/**
 * y = residual + scale * act(x' weight^T + bias), x' = x or its RMS norm.
 *
 * Shapes: x (rows, inner), weight (outputs, inner), y (rows, outputs). Source: `torch.nn.functional.linear`.
 */
export function matmul(inputs: MatmulInputs, options: MatmulOptions): Float64Array {
  const { rows, inner, outputs, activation = 'none', scale = 1 } = options;
  const norm = { rows, width: inner, eps: options.normEps ?? 1e-5, weightOffset: options.normWeightOffset };
  const { normWeight } = inputs;
  const normalised = normWeight === undefined ? inputs.x : rmsNorm({ x: inputs.x, weight: normWeight }, norm);
  const x = float64('x', normalised, rows, inner);
  const weight = float64('weight', inputs.weight, outputs, inner);
  const bias = optionalFloat64('bias', inputs.bias, outputs);
  const residual = optionalFloat64('residual', inputs.residual, rows, outputs);
  const y = zeros(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += x.at(row * inner + k) * weight.at(output * inner + k);
      if (bias !== undefined) sum += bias.at(output);
      const value = scale * activate(activation, sum);
      const index = row * outputs + output;
      y.set(index, residual === undefined ? value : residual.at(index) + value);
    }
  }
  return y.values;
}
