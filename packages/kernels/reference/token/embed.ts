import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface EmbedInputs {
  /** (V, D) */
  readonly table: Numbers;
  /** (rows), each in 0 .. V - 1, or any where there is `firstToken` */
  readonly tokens: Numbers;
  /** (T, D) */
  readonly positions?: Numbers | undefined;
  /** (rows / length), tokens consumed before; needed by `positions` */
  readonly position?: Numbers | undefined;
  /** (rows, D), kept for tokens that the table lacks; zeros by default */
  readonly out?: Numbers | undefined;
}

export interface EmbedOptions {
  /** Number of tokens: B L */
  readonly rows: number;
  /** V */
  readonly vocabulary: number;
  /** D */
  readonly width: number;
  /** 1 by default. */
  readonly scale?: number | undefined;
  /** Token of the table's first row, where it is a part of a vocabulary. */
  readonly firstToken?: number | undefined;
  /** L, tokens of a sequence; all by default. */
  readonly length?: number | undefined;
  /** T */
  readonly capacity?: number | undefined;
}

/**
 * y[row] = scale * table[tokens[row] - firstToken] + positions[position[row / length] + row % length], positions beyond
 * T - 1 adding nothing. For a token that the table lacks, y[row] is out[row] where it is given, else 0 takes the place of
 * the table's row.
 *
 * Shapes: table (V, D), tokens (rows), y (rows, D). Source: `torch.nn.functional.embedding`; without `firstToken` a
 * `RangeError` for a token outside the vocabulary.
 */
export function embed(inputs: EmbedInputs, options: EmbedOptions): Float64Array {
  const { rows, vocabulary, width, scale = 1, firstToken, length = rows, capacity = 0 } = options;
  const table = float64('table', inputs.table, vocabulary, width);
  const tokens = float64('tokens', inputs.tokens, rows);
  const positions = optionalFloat64('positions', inputs.positions, capacity, width);
  const position = float64('position', inputs.position ?? new Float64Array(rows / length), rows / length);
  const out = optionalFloat64('out', inputs.out, rows, width);
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    const entry = tokens.at(row) - (firstToken ?? 0);
    const isOwn = firstToken === undefined || (entry >= 0 && entry < vocabulary);
    const at = position.at(Math.floor(row / length)) + (row % length);
    for (let d = 0; d < width; d++) {
      const own = isOwn ? scale * table.at(entry * width + d) : 0;
      const learned = positions !== undefined && at < capacity ? positions.at(at * width + d) : 0;
      y.set(row * width + d, isOwn || out === undefined ? own + learned : out.at(row * width + d));
    }
  }
  return y.values;
}
