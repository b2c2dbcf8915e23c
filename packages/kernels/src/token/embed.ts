// Longer than most host halves: learned positions, and an output that is given, are checked by functions of their own.
import { embedShader } from '../generated/token/embed.ts';
import { requireArgument, requireDtype, requireRank, requireShape } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import { requireMatrix, requireWeight } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, flatGrid, isMultiple, multiplySize, productSize, sameSize } from '../core/size.ts';

export interface EmbedInputs {
  /** (V, D) f32, f16, bf16, q8 or q4; rows padded as `packMatrix` makes them */
  readonly table: TensorRef;
  /** (L) or (B, L) u32 */
  readonly tokens: TensorRef;
  /** (T, D) f32, learned positions; rows padded as `packMatrix` makes them. Needs `position`. */
  readonly positions?: TensorRef | undefined;
  /**
   * u32, tokens of a sequence that were consumed before this call: (B) for tokens (B, L). For tokens of one dimension its
   * shape says what they are: (1), and all are of one sequence; (B) for B tokens, and each is a sequence of its own.
   */
  readonly position?: TensorRef | undefined;
  /** (L, D) or (B, L, D) f32, what an earlier call gave: rows of tokens that `table` lacks stay as they are */
  readonly out?: TensorRef | undefined;
}

export interface EmbedOptions {
  /** Multiplies every value of the table, not those of `positions`; 1 when absent. */
  readonly scale?: number | undefined;
  /** The token of the table's first row; 0 when absent. */
  readonly firstToken?: number | undefined;
}

const WORKGROUP_SIZE = 64;

/**
 * Rows of the embedding table, with learned positions where they are given:
 * `y[..., l, :] = scale * table[tokens[..., l] - firstToken, :] + positions[position + l, :]`. A token that the table lacks
 * counts as a row of zeros, and so does a position of T or more: the GPU cannot raise an error.
 *
 * A vocabulary too large for one binding lies in several tables of rows, each with its `firstToken`: the first call makes
 * y, the others take it as `out` and write the rows of their own tokens alone. All are given the same positions.
 *
 * @returns (L, D) or (B, L, D) f32: `out`, or a new tensor with rows at a multiple of 4 values
 * @throws ShapeError if `table` or `positions` is no matrix of a dtype above with padded rows, `tokens` or `position` not
 *   u32, or another shape not as above; ArgumentError if only one of `positions` and `position` is given, or `firstToken`
 *   is no token
 *
 * Cost: D flops (2 D with positions), 4 D bytes and a row of each table for each token.
 */
export function embed(recording: Recording, inputs: EmbedInputs, options: EmbedOptions = {}): TensorRef {
  const { table, tokens, positions, position, out } = inputs;
  const { scale = 1, firstToken = 0 } = options;
  const matrix = requireWeight('embed', 'table', table);
  const { outputs: vocabSize, inner: hiddenSize } = matrix;
  requireDtype('embed', 'tokens', tokens, 'u32');
  requireArgument(
    Number.isInteger(firstToken) && firstToken >= 0 && firstToken + vocabSize <= 2 ** 32,
    `embed: 'firstToken' is ${firstToken} for a table of ${vocabSize} rows.`,
    'Give the whole number of the first row, so that all rows count below 2^32.',
  );
  const places = positionPlaces(inputs, hiddenSize);
  const tokensWidth = tokens.shape[tokens.shape.length - 1] ?? 1;
  const rows = productSize(tokens.shape);
  const octets = Math.ceil(hiddenSize / 8);
  const padded = Math.ceil(hiddenSize / 4) * 4;
  const shape = [...tokens.shape, hiddenSize];
  if (out !== undefined) requireOut(out, shape, padded);
  const y = out ?? recording.scratch('embed.y', 'f32', shape, padded);
  recording.dispatch(embedShader, {
    bindings: {
      table,
      tokens,
      positions: positions ?? recording.placeholder(),
      position: position ?? recording.placeholder(),
      y,
    },
    params: {
      rows,
      octets,
      quads: padded / 4,
      vocabSize,
      firstToken,
      tableOffset: ceilDivSize(matrix.offset, 8),
      tableStride: matrix.stride / 8,
      tableScales: matrix.scales,
      tokensOffset: tokens.offset,
      tokensWidth,
      tokensStride: strideOfRows('tokens', tokens, 1),
      ...places,
      yOffset: ceilDivSize(y.offset, 4),
      yStride: strideOfRows('out', y, 1) / 4,
      scale,
    },
    overrides: { WORKGROUP_SIZE, HAS_POSITIONS: positions !== undefined, KEEPS: out !== undefined },
    choices: { weight: matrix.dtype },
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, octets), WORKGROUP_SIZE)),
  });
  return y;
}

/** The parameters of learned positions; zeros where there are none. @throws ShapeError or ArgumentError */
function positionPlaces(
  { tokens, positions, position }: EmbedInputs,
  hiddenSize: number,
): Readonly<Record<'length' | 'capacity' | 'positionsOffset' | 'positionsStride' | 'positionOffset', Size>> {
  requireArgument(
    (positions === undefined) === (position === undefined),
    "embed: 'positions' and 'position' belong together.",
    'Give both or neither.',
  );
  if (positions === undefined || position === undefined) {
    return { length: 1, capacity: 0, positionsOffset: 0, positionsStride: 0, positionOffset: 0 };
  }
  requireDtype('embed', 'positions', positions, 'f32');
  const { outputs: capacity, offset, stride } = requireMatrix('embed', 'positions', positions);
  requireShape('embed', 'positions', positions, [capacity, hiddenSize]);
  requireDtype('embed', 'position', position, 'u32');
  const flat = tokens.shape.length === 1;
  const [first = 1, second = 1] = flat ? tokens.shape : requireRank('embed', 'tokens', tokens, ['B', 'L']);
  const isOne = flat && position.shape.length === 1 && sameSize(position.shape[0] ?? 0, 1);
  if (!isOne) requireShape('embed', 'position', position, [first]);
  return {
    length: isOne ? first : second,
    capacity,
    positionsOffset: ceilDivSize(offset, 8),
    positionsStride: stride / 8,
    positionOffset: position.offset,
  };
}

/** @throws ShapeError unless whole quads can be written to every row of `out` */
function requireOut(out: TensorRef, shape: readonly Size[], padded: number): void {
  requireDtype('embed', 'out', out, 'f32');
  requireShape('embed', 'out', out, shape);
  const stride = strideOfRows('out', out, 1);
  const width = shape[shape.length - 1] ?? 0;
  // Quads reach beyond a width that is no multiple of 4: into padding, but not into other columns.
  if (stride % 4 === 0 && isMultiple(out.offset, 4) && (width === padded || stride === padded)) return;
  throw new ShapeError(
    `embed: rows of 'out' lie ${stride} values apart; they must begin at multiples of 4 and be padded to ${padded}.`,
    'Give what an earlier call of embed returned.',
  );
}
