import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { joinRows } from './join_rows.ts';

/** What the selective scan and its one-token form have in common; `...` stands for (B, L) or (B). All f32. */
export interface SelectiveTensors {
  /** (..., E), the output of the convolution; rows may be strided */
  readonly u: TensorRef;
  /** (..., E), raw; rows may be strided */
  readonly dt: TensorRef;
  /** (E, N), negative */
  readonly A: TensorRef;
  /** (..., G, N); rows of groups may be strided; channel e reads group floor(e G / E) */
  readonly B: TensorRef;
  /** (..., G, N); rows of groups may be strided. B and C are best views of one storage: else they are copied first */
  readonly C: TensorRef;
  /** (E), added to dt */
  readonly dtBias?: TensorRef;
  /** (E), the skip weight. dtBias and D are best views of one storage: else, where both are given, they are copied */
  readonly D?: TensorRef;
  /** (..., E), the gate before its activation; rows may be strided */
  readonly z?: TensorRef;
  /** (B, E, N), updated in place */
  readonly state?: TensorRef;
}

/** Sizes that both kernels take from their inputs. */
export interface SelectiveSizes {
  readonly channels: number;
  readonly groups: number;
  readonly stateSize: number;
}

const LARGEST_STATE = 256;

/**
 * Checks dtypes and shapes against each other.
 *
 * @param sequence the leading dimensions, (B, L) or (B), with their letters
 */
export function requireSelective(
  kernel: string,
  tensors: SelectiveTensors,
  sequence: readonly Size[],
  letters: readonly string[],
): SelectiveSizes {
  for (const [name, tensor] of Object.entries(tensors) as [string, TensorRef | undefined][]) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
  const { u, dt, A, B, C, dtBias, D, z, state } = tensors;
  const uShape = requireRank(kernel, 'u', u, [...letters, 'E']);
  const bShape = requireRank(kernel, 'B', B, [...letters, 'G', 'N']);
  const channels = requireStatic(kernel, 'E', uShape[letters.length]);
  const groups = requireStatic(kernel, 'G', bShape[letters.length]);
  const stateSize = requireStatic(kernel, 'N', bShape[letters.length + 1]);
  requireArgument(
    channels % groups === 0,
    `${kernel}: ${channels} channels do not divide into ${groups} groups.`,
    'Give B and C a number of groups that divides the number of channels.',
  );
  requireArgument(
    stateSize <= LARGEST_STATE,
    `${kernel}: a state of ${stateSize} values a channel is larger than ${LARGEST_STATE}.`,
    `Use at most ${LARGEST_STATE}; every model of this kind has 8 to 64.`,
  );
  requireShape(kernel, 'dt', dt, [...sequence, channels]);
  requireShape(kernel, 'A', A, [channels, stateSize]);
  requireShape(kernel, 'B', B, [...sequence, groups, stateSize]);
  requireShape(kernel, 'C', C, [...sequence, groups, stateSize]);
  if (z !== undefined) requireShape(kernel, 'z', z, [...sequence, channels]);
  if (dtBias !== undefined) requireShape(kernel, 'dtBias', dtBias, [channels]);
  if (D !== undefined) requireShape(kernel, 'D', D, [channels]);
  if (state !== undefined) requireShape(kernel, 'state', state, [sequence[0] ?? 1, channels, stateSize]);
  return { channels, groups, stateSize };
}

/** Tensors that one binding reads: B with C, and dtBias with D. */
export interface SelectivePairs {
  readonly B: TensorRef;
  readonly C: TensorRef;
  /** What to bind for both vectors: a placeholder where there is none. */
  readonly vectors: TensorRef;
  readonly biasOffset: Size;
  readonly skipOffset: Size;
}

/** B with C and dtBias with D as views of one storage each: the shaders have 8 storage bindings for 10 tensors. */
export function pairUp(recording: Recording, kernel: string, { B, C, dtBias, D }: SelectiveTensors): SelectivePairs {
  const [b = B, c = C] = joinRows(recording, `${kernel}.joined`, [
    { name: 'B', tensor: B, dimensions: 2 },
    { name: 'C', tensor: C, dimensions: 2 },
  ]);
  const given = [
    ...(dtBias === undefined ? [] : [{ name: 'dtBias', tensor: dtBias, dimensions: 1 }]),
    ...(D === undefined ? [] : [{ name: 'D', tensor: D, dimensions: 1 }]),
  ];
  const [first, second] = joinRows(recording, `${kernel}.vectors`, given);
  const skip = dtBias === undefined ? first : second;
  return {
    B: b,
    C: c,
    vectors: first ?? recording.placeholder(),
    biasOffset: dtBias === undefined ? 0 : (first?.offset ?? 0),
    skipOffset: D === undefined ? 0 : (skip?.offset ?? 0),
  };
}

/** Offset and stride of a tensor's rows under the names that `Params` has for them; zeros where it is absent. */
export function placeOf<Name extends string>(
  name: Name,
  tensor: TensorRef | undefined,
  dimensions: number,
): Record<`${Name}Offset`, Size> & Record<`${Name}Stride`, number> {
  return {
    [`${name}Offset`]: tensor?.offset ?? 0,
    [`${name}Stride`]: tensor === undefined ? 0 : strideOfRows(name, tensor, dimensions),
  } as Record<`${Name}Offset`, Size> & Record<`${Name}Stride`, number>;
}
