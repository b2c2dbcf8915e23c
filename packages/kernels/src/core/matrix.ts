import type { Capabilities } from './capabilities.ts';
import { hasRequirement } from './capabilities.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from './checks.ts';
import { isQuantized, QUANT_BLOCK, ROW_ALIGNMENT, storagePlanes, valuesPerWord } from './dtype.ts';
import { ShapeError } from './errors.ts';
import type { Recording, TensorRef } from './recording.ts';
import { strideOfRows } from './recording.ts';
import type { Shader } from './shader.ts';
import type { Size } from './size.ts';
import { ceilDivSize, flatGrid, isMultiple, maximumSize } from './size.ts';

// What the families of matrix products share on the host: checks, parameters, tile shapes and grids.

/** Activation functions by name, numbered as in `wgsl/shared/activations.wgsl`. */
const ACTIVATIONS = { none: 0, silu: 1, gelu: 2, geluTanh: 3, relu: 4, relu2: 5, sigmoid: 6 } as const;

export type ActivationName = keyof typeof ACTIVATIONS;

/** Dtypes of weight matrices whose values stand alone. */
export type PlainDtype = 'f32' | 'f16' | 'bf16';

/** Dtypes of weight matrices, the axis `weight` of shaders. */
export type WeightDtype = PlainDtype | 'q8' | 'q4';

/** Most rows of x that matrix-vector kernels take: up to four share one read of the weights. */
export const MATVEC_MAX_ROWS = 8;

/** A weight matrix (N, K) as shaders address it, in values. */
export interface MatrixView {
  readonly dtype: PlainDtype;
  readonly outputs: number;
  readonly inner: number;
  readonly offset: Size;
  readonly stride: number;
}

/** A {@link MatrixView} that may be quantized. */
export interface WeightView extends Omit<MatrixView, 'dtype'> {
  readonly dtype: WeightDtype;
  /** Where the plane of scales begins, in elements of 16 bytes of the tensor; 0 where there is none. */
  readonly scales: number;
}

/** A tensor of rows as shaders address it, in values. */
export interface RowsView {
  readonly rows: Size;
  readonly offset: Size;
  readonly stride: number;
  /** Whether every row begins at a multiple of 16 bytes. */
  readonly aligned: boolean;
}

/** @throws ArgumentError if there is no activation of that name */
export function activationNumber(kernel: string, name: ActivationName = 'none'): number {
  requireArgument(
    Object.hasOwn(ACTIVATIONS, name),
    `${kernel}: there is no activation '${name}'.`,
    `Use one of: ${Object.keys(ACTIVATIONS).join(', ')}.`,
  );
  return ACTIVATIONS[name];
}

/** @throws ShapeError unless the tensor is an (N, K) matrix of f32, f16 or bf16 whose rows are 16-byte aligned */
export function requireMatrix(kernel: string, name: string, tensor: TensorRef): MatrixView {
  requireDtype(kernel, name, tensor, 'f32', 'f16', 'bf16');
  return { ...viewMatrix(kernel, name, tensor), dtype: tensor.dtype as PlainDtype };
}

/** @throws ShapeError unless the tensor is an (N, K) matrix whose rows are 16-byte aligned, or whole blocks of q8 or q4 */
export function requireWeight(kernel: string, name: string, tensor: TensorRef): WeightView {
  requireDtype(kernel, name, tensor, 'f32', 'f16', 'bf16', 'q8', 'q4');
  const { dtype, rows, rowStride } = tensor.storage;
  const view = viewMatrix(kernel, name, tensor);
  const planes = isQuantized(dtype)
    ? storagePlanes(dtype, requireStatic(kernel, `N of '${name}'`, rows), rowStride)
    : [];
  return { ...view, dtype: tensor.dtype as WeightDtype, scales: (planes[1]?.byteOffset ?? 0) / 16 };
}

/** Values that a u32 can count. */
const MOST_VALUES = 2 ** 32 - 1;

function viewMatrix(kernel: string, name: string, tensor: TensorRef): Omit<MatrixView, 'dtype'> {
  const [outputs, inner] = requireRank(kernel, name, tensor, ['N', 'K']);
  const stride = strideOfRows(name, tensor, 1);
  const alignment = isQuantized(tensor.dtype) ? QUANT_BLOCK : ROW_ALIGNMENT;
  if (stride % alignment !== 0 || !isMultiple(tensor.offset, alignment)) {
    throw new ShapeError(
      `${kernel}: rows of '${name}' must begin at multiples of ${alignment} values; found rows ${stride} apart.`,
      'Pad the rows with packMatrix, or give the row stride matrixRowStride(dtype, width).',
    );
  }
  const values = maximumSize(tensor.storage.rows) * tensor.storage.rowStride;
  if (values > MOST_VALUES) {
    throw new ShapeError(
      `${kernel}: '${name}' lies in a tensor of ${values} values; shaders count up to ${MOST_VALUES}.`,
      'Split the matrix into several tensors of rows.',
    );
  }
  return {
    outputs: requireStatic(kernel, `N of '${name}'`, outputs),
    inner: requireStatic(kernel, `K of '${name}'`, inner),
    offset: tensor.offset,
    stride,
  };
}

/** Values of one 16-byte load of weights. */
export const valuesPerLoad = (dtype: WeightDtype): number => 4 * valuesPerWord(dtype);

/** @throws ShapeError unless the tensor is (M, width) f32 */
export function requireRows(kernel: string, name: string, tensor: TensorRef, width: number): RowsView {
  requireDtype(kernel, name, tensor, 'f32');
  const [rows = 0] = requireRank(kernel, name, tensor, ['M', 'K']);
  requireShape(kernel, name, tensor, [rows, width]);
  const stride = strideOfRows(name, tensor, 1);
  return { rows, offset: tensor.offset, stride, aligned: stride % 4 === 0 && isMultiple(tensor.offset, 4) };
}

/** @throws ShapeError unless the vector is absent or (width) f32 */
export function requireVector(kernel: string, name: string, tensor: TensorRef | undefined, width: number): void {
  if (tensor === undefined) return;
  requireDtype(kernel, name, tensor, 'f32');
  requireShape(kernel, name, tensor, [width]);
}

/**
 * Where a product goes: into the residual, into `out`, or into a new scratch whose rows are 16-byte aligned.
 *
 * @throws ArgumentError if both are given; ShapeError if one is not (M, N) f32
 */
export function productOutput(
  recording: Recording,
  kernel: string,
  shape: readonly [Size, number],
  given: { readonly residual?: TensorRef | undefined; readonly out?: TensorRef | undefined },
): { readonly tensor: TensorRef; readonly view: RowsView } {
  const { residual, out } = given;
  requireArgument(
    residual === undefined || out === undefined,
    `${kernel}: 'residual' is updated in place, so that 'out' has no use.`,
    'Give one of them.',
  );
  const [rows, outputs] = shape;
  for (const [name, tensor] of [
    ['residual', residual],
    ['out', out],
  ] as const) {
    if (tensor !== undefined) requireShape(kernel, name, tensor, shape);
  }
  const tensor =
    residual ?? out ?? recording.scratch(`${kernel}.y`, 'f32', [rows, outputs], Math.ceil(outputs / 4) * 4);
  return { tensor, view: requireRows(kernel, residual === undefined ? 'out' : 'residual', tensor, outputs) };
}

/** Overrides of `wgsl/shared/tile.wgsl`; a type, so that it can stand where a record of numbers is asked for. */
export type TileShape = {
  readonly THREADS_M: number;
  readonly THREADS_N: number;
  readonly THREAD_ROWS: 4 | 8;
  readonly THREAD_COLUMNS: 4 | 8;
};

/** Tiles of a product: rows and columns of outputs of one workgroup. */
export const tileRows = (tile: TileShape): number => tile.THREADS_M * tile.THREAD_ROWS;
export const tileColumns = (tile: TileShape): number => tile.THREADS_N * tile.THREAD_COLUMNS;

/** Tiles from short prompts to large products, named by their rows and columns. */
export const TILES: Readonly<Record<'16x64' | '32x64' | '64x64' | '128x128', TileShape>> = {
  '16x64': { THREADS_M: 4, THREADS_N: 16, THREAD_ROWS: 4, THREAD_COLUMNS: 4 },
  '32x64': { THREADS_M: 8, THREADS_N: 16, THREAD_ROWS: 4, THREAD_COLUMNS: 4 },
  '64x64': { THREADS_M: 8, THREADS_N: 16, THREAD_ROWS: 8, THREAD_COLUMNS: 4 },
  '128x128': { THREADS_M: 16, THREADS_N: 16, THREAD_ROWS: 8, THREAD_COLUMNS: 8 },
};

/** Workgroups below which large tiles would leave compute units idle. */
const BUSY_WORKGROUPS = 256;

/** @throws ArgumentError unless every invocation has at most one block of x and one of the weights to stage */
export function requireTile(kernel: string, tile: TileShape): void {
  const threads = tile.THREADS_M * tile.THREADS_N;
  // Blocks are four rows of one 16-byte load: four along K of x, and of f32 weights.
  requireArgument(
    threads <= 256 && Math.max(tileRows(tile), tileColumns(tile)) <= threads,
    `${kernel}: a tile of ${tileRows(tile)} by ${tileColumns(tile)} does not suit ${threads} invocations.`,
    'A tile may have up to as many rows and columns as invocations, which may be up to 256.',
  );
}

/** The tile for a product of up to `rows` by `columns` outputs. */
export function chooseTile(rows: number, columns: number): TileShape {
  if (rows <= 16) return TILES['16x64'];
  if (rows <= 32) return TILES['32x64'];
  const large = Math.ceil(rows / 128) * Math.ceil(columns / 128);
  return large >= BUSY_WORKGROUPS ? TILES['128x128'] : TILES['64x64'];
}

/** The tile for two products at once (a gate's and another's), each of up to `rows` by `columns` outputs. */
export function chooseGatedTile(rows: number, columns: number): TileShape {
  const tile = chooseTile(rows, 2 * columns);
  return { ...tile, THREADS_M: Math.max(tile.THREADS_M, 8), THREAD_COLUMNS: 8 };
}

/** Overrides of `wgsl/shared/matrix_tile.wgsl`: a tile has 32 * SIDE rows and columns. */
export type MatrixTileShape = { readonly SIDE: 2 | 4 };

/** Rows of x from which matrix units are worth it: 16 rows with 4096 x 4096 f16 took an H200 67 us, portable 246. */
const MATRIX_UNIT_ROWS = 9;

/** Tokens of a sequence from which scans and attention are worth it on matrix units. */
export const MATRIX_UNIT_TOKENS = 32;

/**
 * Whether to record a product with matrix units (f16 operands, f32 sums): where an f16 holds the weights, or nearly (a
 * quant times its scale is rounded by 2^-11 of itself), the device has the units and there are rows enough;
 * `force: { unit }` overrides the last two.
 *
 * @param shader the variant with matrix units
 * @param least rows that are enough
 */
export function usesMatrixUnits(
  recording: Recording,
  shader: Pick<Shader, 'requires'>,
  dtype: WeightDtype,
  rows: Size,
  least: number = MATRIX_UNIT_ROWS,
): dtype is 'f16' | 'q8' | 'q4' {
  const forced = recording.force['unit'];
  if (dtype === 'f32' || dtype === 'bf16' || forced === 'portable') return false;
  if (forced === 'matrix') return true;
  const usable = shader.requires.every((need) => hasRequirement(recording.capabilities, need));
  return usable && maximumSize(rows) >= least;
}

/** The tile of matrix units for a product of up to `rows` by `columns` outputs; a gate's columns count too. */
export function chooseMatrixTile(rows: number, columns: number): MatrixTileShape {
  // Measured on an H200: with 108 large tiles they are faster by a third, with 64 slower by a fifth.
  return { SIDE: Math.ceil(rows / 128) * Math.ceil(columns / 128) >= 96 ? 4 : 2 };
}

/** Overrides of matrix-vector shaders. */
export type VectorShape = {
  readonly WORKGROUP_SIZE: number;
  /** Outputs of one workgroup: 1, 2 or 4. */
  readonly ROWS: 1 | 2 | 4;
  /** Rows of x of one workgroup: 1, 2 or 4. */
  readonly X_ROWS: 1 | 2 | 4;
  /** Loads of each row that are issued before the first is used. */
  readonly AHEAD: 1 | 2;
};

/**
 * The shape for up to `rows` rows of x with an (outputs, inner) matrix.
 *
 * @param gained whether x is multiplied with the weight of a norm, which is then read along with it
 */
export function chooseVector(
  rows: number,
  { dtype, outputs, inner }: Pick<WeightView, 'dtype' | 'outputs' | 'inner'>,
  capabilities: Capabilities,
  gained: boolean,
): VectorShape {
  const xRows = rows <= 1 ? 1 : rows <= 2 ? 2 : 4;
  if (capabilities.software) {
    // A CPU runs invocations one subgroup after another, and switches between them at every barrier: the smallest
    // workgroups win. Measured on SwiftShader, 2 busy cores, 902 x 192 f16: 76 ms with 32 invocations for each output,
    // 22 ms with 32 for four outputs, 3.9 ms with 4 for four.
    return { WORKGROUP_SIZE: 4 * xRows, ROWS: 4, X_ROWS: xRows, AHEAD: 2 };
  }
  const loads = Math.ceil(inner / valuesPerLoad(dtype));
  // Swept on an H200 over the matrices of models from 130M to 8B (docs/performance.md has the table): a wide matrix fills
  // the device with workgroups of one subgroup; a narrow one wants the rows themselves shared by more invocations.
  const wide = outputs >= 8192;
  if (isQuantized(dtype)) {
    // A load of quants meets two to four times the bytes of its f16s in x: four outputs share them.
    const ROWS = outputs >= 1024 ? 4 : 1;
    if (dtype === 'q8') {
      const size = loads < 128 ? 32 : wide ? (loads % 64 === 0 ? 64 : 32) : loads >= 1024 ? 256 : 128;
      return { WORKGROUP_SIZE: size, ROWS, X_ROWS: xRows, AHEAD: 1 };
    }
    if (loads < 128) {
      const size = wide || loads < 64 ? 32 : 64;
      return { WORKGROUP_SIZE: size, ROWS, X_ROWS: xRows, AHEAD: wide && loads % 64 === 0 ? 2 : 1 };
    }
    if (loads < 256 && outputs >= 4096) return { WORKGROUP_SIZE: 64, ROWS, X_ROWS: xRows, AHEAD: 2 };
    return { WORKGROUP_SIZE: 128, ROWS, X_ROWS: xRows, AHEAD: loads >= 256 ? 2 : 1 };
  }
  if (loads < 128) return { WORKGROUP_SIZE: 32, ROWS: 2, X_ROWS: xRows, AHEAD: 1 };
  if (wide && loads < 512) return { WORKGROUP_SIZE: 32, ROWS: 4, X_ROWS: xRows, AHEAD: 1 };
  return { WORKGROUP_SIZE: !gained && !wide && loads >= 1024 ? 256 : 128, ROWS: 2, X_ROWS: xRows, AHEAD: 1 };
}

/** Grid of a matrix-vector shader whose workgroups make `perWorkgroup` outputs each. */
export function vectorGrid(
  rows: Size,
  outputs: number,
  shape: VectorShape,
  perWorkgroup: number,
): readonly [Size, Size, Size] {
  const [x, y] = flatGrid(Math.ceil(outputs / perWorkgroup));
  return [x, y, ceilDivSize(rows, shape.X_ROWS)];
}

/** @throws ShapeError if a matrix-vector kernel would get too many rows */
export function requireFewRows(kernel: string, rows: Size): number {
  const most = maximumSize(rows);
  if (most <= MATVEC_MAX_ROWS) return most;
  throw new ShapeError(
    `${kernel}: x may have up to ${MATVEC_MAX_ROWS} rows; found up to ${most}.`,
    'Use matmul for more rows.',
  );
}
