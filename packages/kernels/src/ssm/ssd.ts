import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';

/** How a raw time step becomes the step of the recurrence: `dt = clamp(softplus(dt + dtBias), low, high)`. */
export interface SsdTimeOptions {
  /** Whether softplus is applied; true when absent. Without it dt must not be negative. */
  readonly dtSoftplus?: boolean;
  /** Smallest and largest dt, after softplus; no limits when absent. */
  readonly dtLimits?: readonly [low: number, high: number];
}

/** What the scan and its one-token form have in common; `...` stands for (B, L) or (B). All f32. */
export interface SsdTensors {
  /** (..., H, P); rows of heads may be strided */
  readonly x: TensorRef;
  /** (..., H), raw; rows may be strided */
  readonly dt: TensorRef;
  /** (H), negative */
  readonly A: TensorRef;
  /** (..., G, N); rows of groups may be strided; head h reads group floor(h G / H) */
  readonly B: TensorRef;
  /** (..., G, N); rows of groups may be strided */
  readonly C: TensorRef;
  /** (H), added to dt */
  readonly dtBias?: TensorRef;
  /** (H), the skip weight */
  readonly D?: TensorRef;
  /** (B, H, P, N), updated in place */
  readonly state?: TensorRef;
}

/** Sizes that every SSD kernel takes from its inputs. */
export interface SsdSizes {
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

/** The largest finite f32: shaders may not rely on infinity. */
const MAX_F32 = 3.4028234663852886e38;

/**
 * Checks dtypes and shapes against each other.
 *
 * @param sequence the leading dimensions, (B, L) or (B), with their letters
 */
export function requireSsd(
  kernel: string,
  tensors: SsdTensors,
  sequence: readonly Size[],
  letters: readonly string[],
): SsdSizes {
  for (const [name, tensor] of Object.entries(tensors) as [string, TensorRef | undefined][]) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
  const { x, B, C, dt, A, dtBias, D, state } = tensors;
  const xShape = requireRank(kernel, 'x', x, [...letters, 'H', 'P']);
  const bShape = requireRank(kernel, 'B', B, [...letters, 'G', 'N']);
  const heads = requireStatic(kernel, 'H', xShape[letters.length]);
  const headDim = requireStatic(kernel, 'P', xShape[letters.length + 1]);
  const groups = requireStatic(kernel, 'G', bShape[letters.length]);
  const stateSize = requireStatic(kernel, 'N', bShape[letters.length + 1]);
  requireArgument(
    heads % groups === 0,
    `${kernel}: ${heads} heads do not divide into ${groups} groups.`,
    'Give B and C a number of groups that divides the number of heads.',
  );
  requireShape(kernel, 'dt', dt, [...sequence, heads]);
  requireShape(kernel, 'B', B, [...sequence, groups, stateSize]);
  requireShape(kernel, 'C', C, [...sequence, groups, stateSize]);
  for (const [name, vector] of [
    ['A', A],
    ['dtBias', dtBias],
    ['D', D],
  ] as const) {
    if (vector === undefined) continue;
    requireShape(kernel, name, vector, [heads]);
    requireArgument(vector.offset === 0, `${kernel}: '${name}' is a part of a tensor.`, 'Give a tensor of its own.');
  }
  if (state !== undefined) requireShape(kernel, 'state', state, [sequence[0] ?? 1, heads, headDim, stateSize]);
  return { heads, headDim, groups, stateSize };
}

/** The limits of dt as shaders take them. @throws ArgumentError unless low <= high */
export function timeLimits(kernel: string, options: SsdTimeOptions): { readonly low: number; readonly high: number } {
  const [low, high] = options.dtLimits ?? [-Infinity, Infinity];
  requireArgument(
    low <= high,
    `${kernel}: dtLimits [${low}, ${high}] allow no dt.`,
    'Give the smaller limit first; Infinity stands for none.',
  );
  return { low: Math.max(low, -MAX_F32), high: Math.min(high, MAX_F32) };
}

/** The choice `scalar` on the axis `load` unless all these offsets, strides and sizes are multiples of 4. */
export function loadChoice(...values: readonly Size[]): { load?: 'scalar' } {
  return values.every((value) => typeof value === 'number' && value % 4 === 0) ? {} : { load: 'scalar' };
}
