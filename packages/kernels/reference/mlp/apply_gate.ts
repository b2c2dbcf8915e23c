import { activate, type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface ApplyGateInputs {
  /** (rows, width) */
  readonly x: Numbers;
  /** (rows, width), or (rows), one gate for each row */
  readonly gate?: Numbers | undefined;
  /** (rows, width): an addend, or the residual */
  readonly addend?: Numbers | undefined;
}

export interface ApplyGateOptions {
  readonly rows: number;
  readonly width: number;
  /** Of the gate; 'none' by default. */
  readonly activation?: Activation | undefined;
  /** 1 by default. */
  readonly scale?: number | undefined;
}

/**
 * y = addend + scale * act(gate) * x, value by value; the gate may be one for each row.
 *
 * Shapes: x, addend and y (rows, width), gate (rows, width) or (rows). Source: *GLU Variants Improve Transformer* (arXiv
 * 2002.05202), equation 5.
 */
export function applyGate(inputs: ApplyGateInputs, options: ApplyGateOptions): Float64Array {
  const { rows, width, activation = 'none', scale = 1 } = options;
  const x = float64('x', inputs.x, rows, width);
  const gates = inputs.gate?.length === rows ? 1 : width;
  const gate = optionalFloat64('gate', inputs.gate, rows, gates);
  const addend = optionalFloat64('addend', inputs.addend, rows, width);
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) {
      const at = row * width + i;
      const factor = gate === undefined ? 1 : activate(activation, gate.at(row * gates + (i % gates)));
      y.set(at, (addend?.at(at) ?? 0) + scale * factor * x.at(at));
    }
  }
  return y.values;
}
