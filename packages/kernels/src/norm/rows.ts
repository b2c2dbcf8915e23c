import type { Capabilities } from '../core/capabilities.ts';
import { requireArgument, requireDtype, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, flatGrid, isMultiple, maximumSize } from '../core/size.ts';

/** How the invocations of a workgroup share rows. */
export interface RowTile {
  /** Invocations of one row: a power of two from 4 to 256 */
  readonly lanes: number;
  /** Rows of one workgroup, at most 256 / lanes */
  readonly rows: number;
  /** Whether registers keep a row between the passes: up to 8 elements a lane, of 4 values each where loads are vectors */
  readonly held: boolean;
}

export interface RowTileOption {
  /** How invocations share rows; chosen from the shapes when absent. */
  readonly tile?: RowTile;
}

/** A tensor of rows: where its first begins and how far apart they are, in values. */
export interface RowsPlace {
  readonly offset: Size;
  readonly stride: number;
}

const MOST_STEPS = 8;
const FEWEST_LANES = 8;
const MOST_LANES = 256;
/** Rows this short need no barrier on most devices: a subgroup has all of them. */
const SUBGROUP_LANES = 32;
/** Invocations of a workgroup of several rows. */
const SHARED_WORKGROUP = 128;
/** Invocations below which more of them matter more than the loads of each. */
const FEW_INVOCATIONS = 32_768;

/** The tile for `rows` rows of `elements` elements, each a load of 16 bytes or 4. */
export function chooseRowTile(elements: number, rows: number, { software }: Capabilities): RowTile {
  // A CPU switches between subgroups at every barrier, and gains nothing from registers: one subgroup, one pipeline.
  if (software) return { lanes: 4, rows: 1, held: false };
  const stepsOf = (lanes: number): number => Math.ceil(elements / lanes);
  let lanes = FEWEST_LANES;
  while (lanes < SUBGROUP_LANES && stepsOf(lanes) > MOST_STEPS / 2) lanes *= 2;
  if (stepsOf(lanes) > MOST_STEPS) {
    // Three steps and more give every invocation enough loads in flight; of those the fewest idle lanes, then the most.
    const candidates = [256, 128, 64].filter((count) => stepsOf(count) <= MOST_STEPS && stepsOf(count) > 2);
    const idle = (count: number): number => count * stepsOf(count) - elements;
    lanes = candidates.reduce((best, count) => (idle(count) < idle(best) ? count : best), candidates[0] ?? MOST_LANES);
  }
  while (lanes < MOST_LANES && lanes * rows < FEW_INVOCATIONS && stepsOf(lanes) > 2) lanes *= 2;
  let together = 1;
  while (together < rows && 2 * together * lanes <= SHARED_WORKGROUP) together *= 2;
  return { lanes, rows: together, held: stepsOf(lanes) <= MOST_STEPS };
}

/** The width of rows, checked with the weight of a norm. @throws ShapeError or ArgumentError */
export function requireNorm(
  kernel: string,
  x: TensorRef,
  vectors: Readonly<Record<string, TensorRef | undefined>>,
  eps: number,
): number {
  requireDtype(kernel, 'x', x, 'f32');
  const width = requireStatic(kernel, 'the row width', x.shape[x.shape.length - 1]);
  requireArgument(
    Number.isFinite(eps) && eps >= 0,
    `${kernel}: 'eps' is ${eps}.`,
    'Give a small number that is not negative, such as 1e-5.',
  );
  for (const [name, vector] of Object.entries(vectors)) {
    if (vector === undefined) continue;
    requireDtype(kernel, name, vector, 'f32');
    requireShape(kernel, name, vector, [width]);
    requireArgument(vector.offset === 0, `${kernel}: '${name}' is a part of a tensor.`, 'Give a tensor of its own.');
  }
  return width;
}

/** A tensor of the shape of x, row by row. @throws ShapeError unless it is f32 and has that shape */
export function rowsLike(kernel: string, name: string, tensor: TensorRef, x: TensorRef): RowsPlace {
  requireDtype(kernel, name, tensor, 'f32');
  requireShape(kernel, name, tensor, x.shape);
  return { offset: tensor.offset, stride: strideOfRows(name, tensor, 1) };
}

/** Rows as a norm runs over them. */
export interface RowsPlan<Name extends string> {
  readonly access: 'vector' | 'scalar';
  /** Where tensors lie, in elements. */
  readonly places: Readonly<Record<Name, { readonly offset: Size; readonly stride: number }>>;
  /** Elements of a row. */
  readonly width: number;
  readonly overrides: Readonly<Record<'WORKGROUP_SIZE' | 'LANES' | 'STEPS', number>> & { readonly EXACT: boolean };
  readonly workgroups: readonly [Size, Size];
}

/** Access, tile and grid for rows of `channels` values. @throws ArgumentError if a given tile does not suit them */
export function planRows<Name extends string>(
  recording: Recording,
  kernel: string,
  shape: { readonly channels: number; readonly rows: Size },
  places: Readonly<Record<Name, RowsPlace>>,
  tile: RowTile | undefined,
): RowsPlan<Name> {
  const { channels, rows } = shape;
  const all = Object.entries<RowsPlace>(places);
  const aligned = all.every(([, { offset, stride }]) => isMultiple(offset, 4) && stride % 4 === 0);
  const vector = channels % 4 === 0 && aligned && recording.force['access'] !== 'scalar';
  const values = vector ? 4 : 1;
  const width = channels / values;
  const { lanes, rows: together, held } = tile ?? chooseRowTile(width, maximumSize(rows), recording.capabilities);
  const steps = Math.ceil(width / lanes);
  requireArgument(
    Number.isInteger(Math.log2(lanes)) && lanes >= 4 && Number.isInteger(together) && together >= 1,
    `${kernel}: a tile of ${together} rows of ${lanes} lanes is not possible.`,
    'Give a power of two of lanes, at least 4, and at least one row.',
  );
  requireArgument(
    lanes * together <= MOST_LANES && (!held || steps <= MOST_STEPS),
    `${kernel}: a tile of ${together} rows of ${lanes} lanes is too large, or does not hold ${width} elements a row.`,
    `Give at most ${MOST_LANES} invocations, and ${Math.ceil(width / MOST_STEPS)} lanes or more to hold a row.`,
  );
  const whole = together === 1 || (typeof rows === 'number' && rows % together === 0);
  const inElements = all.map(([name, { offset, stride }]) => [
    name,
    { offset: ceilDivSize(offset, values), stride: stride / values },
  ]);
  return {
    access: vector ? 'vector' : 'scalar',
    places: Object.fromEntries(inElements) as RowsPlan<Name>['places'],
    width,
    overrides: {
      WORKGROUP_SIZE: lanes * together,
      LANES: lanes,
      STEPS: held ? steps : 0,
      EXACT: held && whole && lanes * steps === width,
    },
    workgroups: flatGrid(ceilDivSize(rows, together)),
  };
}
