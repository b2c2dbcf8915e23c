import { requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import type { ActivationName, RowsView, WeightView } from '../core/matrix.ts';
import { requireRows, requireWeight } from '../core/matrix.ts';
import type { TensorRef } from '../core/recording.ts';
import { reshape, strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { multiplySize } from '../core/size.ts';

/** Most experts of a layer, and most of them for one token. */
export const MOE_LIMITS = { experts: 512, topK: 32 } as const;

/** Which experts each token goes to, as `moeRoute` finds it: what every product over experts takes. */
export interface MoeRouting {
  /** (M, k) u32 below E, the best expert of a token first */
  readonly indices: TensorRef;
  /** (M, k) f32 */
  readonly weights: TensorRef;
  /** (M, k) u32, contiguous: all pairs m * k + s, sorted by expert and then by themselves; for many tokens */
  readonly order?: TensorRef | undefined;
  /** (E + 1) u32: where each expert's pairs begin in `order`; for many tokens */
  readonly offsets?: TensorRef | undefined;
}

/** A product with experts: `expertMatvec` and `expertMatmul` have the same inputs and results. */
export interface ExpertInputs {
  /** (M, K) f32, or (M, k, K) with a row for every expert of a token; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (E, N, K) f32, f16, bf16, q8 or q4, rows padded with zeros as `packMatrix` does */
  readonly weight: TensorRef;
  readonly routing: MoeRouting;
}

export interface ExpertOptions {
  /** 'none' when absent */
  readonly activation?: ActivationName | undefined;
}

/** Weights of all experts (E, N, K) as shaders address them, in values. */
export interface ExpertsView extends WeightView {
  readonly experts: number;
  readonly expertStride: number;
}

/** A routing as shaders address it. */
export interface RoutingView {
  readonly tokens: Size;
  /** Experts of a token, k. */
  readonly slots: number;
  readonly pairs: Size;
}

/**
 * The matrices of all experts, rows of one tensor.
 *
 * @throws ShapeError unless they are (E, N, K) with 16-byte aligned rows, or whole blocks of q8 or q4, below 2^32 values
 */
export function requireExperts(kernel: string, name: string, tensor: TensorRef): ExpertsView {
  const sizes = requireRank(kernel, name, tensor, ['E', 'N', 'K']);
  const letters = ['E', 'N', 'K'];
  const [experts = 0, outputs = 0, inner = 0] = sizes.map((size, axis) =>
    requireStatic(kernel, `${letters[axis] ?? ''} of '${name}'`, size),
  );
  const view = requireWeight(kernel, name, reshape(tensor, [experts * outputs, inner]));
  return { ...view, outputs, experts, expertStride: outputs * view.stride };
}

/** @throws ShapeError unless indices and weights are (M, k) and contiguous, of the tokens expected */
export function requireRouting(kernel: string, routing: MoeRouting, tokens: Size): RoutingView {
  const { indices, weights } = routing;
  requireDtype(kernel, 'indices', indices, 'u32');
  requireDtype(kernel, 'weights', weights, 'f32');
  const slots = requireStatic(kernel, 'k', requireRank(kernel, 'indices', indices, ['M', 'k'])[1]);
  for (const [name, tensor] of [
    ['indices', indices],
    ['weights', weights],
  ] as const) {
    requireShape(kernel, name, tensor, [tokens, slots]);
    requireContiguous(kernel, name, tensor, slots);
  }
  if (slots > MOE_LIMITS.topK) {
    throw new ShapeError(`${kernel}: a token may have up to ${MOE_LIMITS.topK} experts; found ${slots}.`, 'Use fewer.');
  }
  return { tokens, slots, pairs: multiplySize(tokens, slots) };
}

/** The sorted form of a routing. @throws ShapeError if it is absent or of other sizes */
export function requireOrder(
  kernel: string,
  { indices, order, offsets }: MoeRouting,
  experts: number,
): { readonly order: TensorRef; readonly offsets: TensorRef } {
  if (order === undefined || offsets === undefined) {
    throw new ShapeError(
      `${kernel}: the routing has no order of its pairs.`,
      "Set 'sorted' in moeRoute, or add it with moeSort.",
    );
  }
  requireDtype(kernel, 'order', order, 'u32');
  requireShape(kernel, 'order', order, indices.shape);
  requireDtype(kernel, 'offsets', offsets, 'u32');
  requireShape(kernel, 'offsets', offsets, [experts + 1]);
  if (order.offset === 0 && offsets.offset === 0) return { order, offsets };
  throw new ShapeError(`${kernel}: 'order' and 'offsets' must not be parts of tensors.`, 'Give them as moeSort does.');
}

/** Rows of x: one a token, or one a pair. @throws ShapeError unless x is (M, K) or (M, k, K) f32 */
export function requireExpertRows(
  kernel: string,
  x: TensorRef,
  slots: number,
  inner: number,
): { readonly tokens: Size; readonly paired: boolean; readonly rows: RowsView } {
  const paired = x.shape.length === 3;
  const [tokens = 0] = requireRank(kernel, 'x', x, paired ? ['M', 'k', 'K'] : ['M', 'K']);
  if (paired) requireShape(kernel, 'x', x, [tokens, slots, inner]);
  const flat = paired ? reshape(x, [multiplySize(tokens, slots), inner]) : x;
  return { tokens, paired, rows: requireRows(kernel, 'x', flat, inner) };
}

function requireContiguous(kernel: string, name: string, tensor: TensorRef, slots: number): void {
  if (strideOfRows(name, tensor, 1) === slots) return;
  throw new ShapeError(`${kernel}: rows of '${name}' must follow each other.`, 'Give a contiguous tensor.');
}
