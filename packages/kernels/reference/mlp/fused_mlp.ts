import { activate, type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers, type Reals } from '../arrays.ts';

export interface FusedMlpInputs {
  /** (rows, D) */
  readonly x: Numbers;
  /** (F, D); left out for a feed-forward layer without a gate */
  readonly gate?: Numbers | undefined;
  /** (F, D) */
  readonly up: Numbers;
  /** (D, F) */
  readonly down: Numbers;
  /** (rows, D) */
  readonly residual?: Numbers | undefined;
}

export interface FusedMlpOptions {
  readonly rows: number;
  /** D */
  readonly width: number;
  /** F */
  readonly hidden: number;
  readonly activation: Activation;
}

/**
 * y = residual + (act(x gate^T) * (x up^T)) down^T with a gate, residual + act(x up^T) down^T without.
 *
 * Shapes: x, residual and y (rows, D), gate and up (F, D), down (D, F). Source: *GLU Variants Improve Transformer*
 * (arXiv 2002.05202), equation 6; without a gate, equation 2.
 */
export function fusedMlp(inputs: FusedMlpInputs, options: FusedMlpOptions): Float64Array {
  const { rows, width, hidden, activation } = options;
  const x = float64('x', inputs.x, rows, width);
  const gate = optionalFloat64('gate', inputs.gate, hidden, width);
  const up = float64('up', inputs.up, hidden, width);
  const down = float64('down', inputs.down, width, hidden);
  const residual = optionalFloat64('residual', inputs.residual, rows, width);
  const y = residual ?? zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    const dot = (weight: Reals, f: number): number => {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += x.at(row * width + d) * weight.at(f * width + d);
      return sum;
    };
    const inner = zeros(hidden);
    for (let f = 0; f < hidden; f++) {
      const activated = activate(activation, dot(gate ?? up, f));
      inner.set(f, gate === undefined ? activated : activated * dot(up, f));
    }
    for (let d = 0; d < width; d++) {
      let sum = 0;
      for (let f = 0; f < hidden; f++) sum += inner.at(f) * down.at(d * hidden + f);
      y.add(row * width + d, sum);
    }
  }
  return y.values;
}
