import {
  requireArgument,
  requireDtype,
  requireRank,
  requireShape,
  requireStatic,
  requireWhole,
} from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
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
  /** (H) or (H, P), the skip weight */
  readonly D?: TensorRef;
  /** (..., H, P), the gate: y is multiplied by silu(z); rows of heads may be strided */
  readonly z?: TensorRef;
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
 * @param states number of states: B, or how many there are to choose from
 */
export function requireSsd(
  kernel: string,
  tensors: SsdTensors,
  sequence: readonly Size[],
  letters: readonly string[],
  states: Size = sequence[0] ?? 1,
): SsdSizes {
  const { x, B, C, dt, A, dtBias, D, z, state } = tensors;
  for (const [name, tensor] of Object.entries({ x, B, C, dt, A, dtBias, D, z, state })) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
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
    requireShape(kernel, name, vector, name === 'D' && hasSkipElements(D) ? [heads, headDim] : [heads]);
    requireWhole(kernel, name, vector);
  }
  if (z !== undefined) requireShape(kernel, 'z', z, [...sequence, heads, headDim]);
  if (state !== undefined) requireShape(kernel, 'state', state, [states, heads, headDim, stateSize]);
  return { heads, headDim, groups, stateSize };
}

/** Whether the skip weight is one of every element, not of every head. */
export const hasSkipElements = (D: TensorRef | undefined): boolean => D?.shape.length === 2;

/** The strides of z, which is optional. */
export function gatePlace(z: TensorRef | undefined): { readonly zOffset: Size; readonly zStride: number } {
  return z === undefined ? { zOffset: 0, zStride: 0 } : { zOffset: z.offset, zStride: strideOfRows('z', z, 2) };
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
