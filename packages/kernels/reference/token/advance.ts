import { float64, type Numbers } from '../arrays.ts';

export interface AdvanceInputs {
  /** (rows) */
  readonly position: Numbers;
}

export interface AdvanceOptions {
  readonly rows: number;
  readonly by: number;
}

/** position[row] + by. Shapes: position and result (rows). */
export function advance(inputs: AdvanceInputs, options: AdvanceOptions): Float64Array {
  const { rows, by } = options;
  const position = float64('position', inputs.position, rows);
  return position.values.map((value) => value + by);
}
