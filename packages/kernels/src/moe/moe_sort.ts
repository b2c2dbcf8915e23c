import { moeSortShader } from '../generated/moe/moe_sort.ts';
import { requireArgument, requireDtype, requireRank, requireStatic } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { maximumSize, multiplySize } from '../core/size.ts';
import { MOE_LIMITS } from './routing.ts';

export interface MoeSortInputs {
  /** (M, k) u32 below `experts`, contiguous; M may be a named size */
  readonly indices: TensorRef;
}

export interface MoeSortOptions {
  /** E, up to 512 */
  readonly experts: number;
}

export interface MoeSortResult {
  /** (M, k) u32 */
  readonly order: TensorRef;
  /** (E + 1) u32 */
  readonly offsets: TensorRef;
}

/**
 * The pairs m * k + s of a routing, sorted by expert and then by themselves, and where each expert's begin: what
 * products over many tokens add to a routing. Every run gives the same order; no atomics are used.
 *
 * @returns order (M, k) and offsets (E + 1), u32
 * @throws ShapeError if `indices` is not (M, k) u32, contiguous; ArgumentError if `experts` is not from 1 to 512
 *
 * Cost: every expert looks at all indices twice, 8 E M k bytes from cache.
 */
export function moeSort(recording: Recording, inputs: MoeSortInputs, options: MoeSortOptions): MoeSortResult {
  const { indices } = inputs;
  const { experts } = options;
  requireDtype('moeSort', 'indices', indices, 'u32');
  const [tokens = 1, k] = requireRank('moeSort', 'indices', indices, ['M', 'k']);
  const slots = requireStatic('moeSort', 'k', k);
  requireArgument(
    Number.isInteger(experts) && experts >= 1 && experts <= MOE_LIMITS.experts,
    `moeSort: 'experts' must be a whole number from 1 to ${MOE_LIMITS.experts}; found ${experts}.`,
    'Give the number of experts of the layer.',
  );
  if (indices.offset !== 0 || strideOfRows('indices', indices, 1) !== slots) {
    throw new ShapeError("moeSort: 'indices' must be contiguous and no part of a tensor.", 'Give it as moeRoute does.');
  }
  const pairs = multiplySize(tokens, slots);
  const order = recording.scratch('moeSort.order', 'u32', [tokens, slots]);
  const offsets = recording.scratch('moeSort.offsets', 'u32', [experts + 1]);
  recording.dispatch(moeSortShader, {
    bindings: { indices, order, offsets },
    params: { pairs, experts },
    overrides: { WORKGROUP_SIZE: recording.capabilities.software ? 4 : maximumSize(pairs) <= 1024 ? 64 : 128 },
    workgroups: [experts],
  });
  return { order, offsets };
}
