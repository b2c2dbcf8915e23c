import { float64, zeros, type Numbers } from '../arrays.ts';

export interface EmbedInputs {
  /** (V, D) */
  readonly table: Numbers;
  /** (rows), each in 0 .. V - 1 */
  readonly tokens: Numbers;
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
}

/**
 * y[row] = scale * table[tokens[row]].
 *
 * Shapes: table (V, D), tokens (rows), y (rows, D). Source: `torch.nn.functional.embedding`; a `RangeError` for a token
 * outside the vocabulary.
 */
export function embed(inputs: EmbedInputs, options: EmbedOptions): Float64Array {
  const { rows, vocabulary, width, scale = 1 } = options;
  const table = float64('table', inputs.table, vocabulary, width);
  const tokens = float64('tokens', inputs.tokens, rows);
  const y = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let d = 0; d < width; d++) y.set(row * width + d, scale * table.at(tokens.at(row) * width + d));
  }
  return y.values;
}
