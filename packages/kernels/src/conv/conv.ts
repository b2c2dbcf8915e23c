import {
  requireArgument,
  requireDtype,
  requireRank,
  requireShape,
  requireStatic,
  requireWhole,
} from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { isMultiple, maximumSize } from '../core/size.ts';

/** What the convolution and its one-token form have in common; `...` stands for (B, L) or (B). All f32. */
export interface ConvTensors {
  /** (..., E); rows may be strided */
  readonly x: TensorRef;
  /** (E, K); tap K - 1 multiplies the current input */
  readonly weight: TensorRef;
  /** (E) */
  readonly bias?: TensorRef;
  /** (B, K - 1, E), the inputs before x, oldest first; updated in place */
  readonly state?: TensorRef;
}

/** What the gated convolution and its one-token form have in common; `...` stands for (B, L) or (B). All f32. */
export interface ShortConvTensors {
  /** (..., E), the gate before the filter; rows may be strided */
  readonly B: TensorRef;
  /** (..., E), the gate after the filter; rows may be strided */
  readonly C: TensorRef;
  /** (..., E); rows may be strided */
  readonly x: TensorRef;
  /** (E, K); tap K - 1 multiplies the current product */
  readonly weight: TensorRef;
  /** (E) */
  readonly bias?: TensorRef;
  /** (B, K - 1, E), the products B x before the first, oldest first; updated in place */
  readonly state?: TensorRef;
}

export interface ConvOptions {
  /** `none` when absent. */
  readonly activation?: 'none' | 'silu';
}

const LEAST_TAPS = 2;
const MOST_TAPS = 4;

/** Checks dtypes and shapes against each other, the state's with room for `slots` sequences; gives B, E and K. */
export function requireConv(
  kernel: string,
  tensors: ConvTensors,
  letters: readonly string[],
  slots?: Size,
): { readonly batch: Size; readonly channels: number; readonly taps: number } {
  const { x, weight, bias, state } = tensors;
  for (const [name, tensor] of Object.entries({ x, weight, bias, state })) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
  const shape = requireRank(kernel, 'x', x, letters);
  const batch = shape[0] ?? 1;
  const channels = requireStatic(kernel, 'E', shape[shape.length - 1]);
  const taps = requireStatic(kernel, 'K', requireRank(kernel, 'weight', weight, ['E', 'K'])[1]);
  requireArgument(
    taps >= LEAST_TAPS && taps <= MOST_TAPS,
    `${kernel}: filters of ${taps} taps are not supported.`,
    `Use ${LEAST_TAPS} to ${MOST_TAPS}.`,
  );
  requireShape(kernel, 'weight', weight, [channels, taps]);
  if (bias !== undefined) {
    requireShape(kernel, 'bias', bias, [channels]);
    requireWhole(kernel, 'bias', bias);
  }
  if (state !== undefined) requireShape(kernel, 'state', state, [slots ?? batch, taps - 1, channels]);
  return { batch, channels, taps };
}

/** Offsets and strides of x, weight and state as the shaders take them. */
export function convPlaces(
  x: TensorRef,
  weight: TensorRef,
  state: TensorRef,
): Record<'xOffset' | 'xStride' | 'weightOffset' | 'weightStride' | 'stateOffset' | 'stateStride', Size> {
  return {
    xOffset: x.offset,
    xStride: strideOfRows('x', x, 1),
    weightOffset: weight.offset,
    weightStride: strideOfRows('weight', weight, 1),
    stateOffset: state.offset,
    stateStride: strideOfRows('state', state, 1),
  };
}

/** Loads of 16 bytes where everything begins at multiples of 4 values and the filters stand without gaps. */
export function loadOf(
  recording: Recording,
  shape: { readonly channels: number; readonly taps: number },
  places: ReturnType<typeof convPlaces>,
): 'vec4' | 'scalar' {
  const { weightStride, ...others } = places;
  const aligned = Object.values(others).every((value) => isMultiple(value, 4));
  const whole = shape.channels % 4 === 0 && weightStride === shape.taps;
  return aligned && whole && recording.force['load'] !== 'scalar' ? 'vec4' : 'scalar';
}

/** `requireConv` and `convPlaces` with the gates B and C. */
export function requireShortConv(
  kernel: string,
  tensors: ShortConvTensors,
  letters: readonly string[],
): ReturnType<typeof requireConv> {
  const { B, C, ...filtered } = tensors;
  const sizes = requireConv(kernel, filtered, letters);
  for (const [name, gate] of [
    ['B', B],
    ['C', C],
  ] as const) {
    requireDtype(kernel, name, gate, 'f32');
    requireShape(kernel, name, gate, tensors.x.shape);
  }
  return sizes;
}

/** `convPlaces` and those of the gates. */
export function shortConvPlaces(
  { B, C, x, weight }: ShortConvTensors,
  state: TensorRef,
): ReturnType<typeof convPlaces> & Record<'bOffset' | 'bStride' | 'cOffset' | 'cStride', Size> {
  return {
    ...convPlaces(x, weight, state),
    bOffset: B.offset,
    bStride: strideOfRows('B', B, 1),
    cOffset: C.offset,
    cStride: strideOfRows('C', C, 1),
  };
}

/** @throws ShapeError or ArgumentError unless `starts` is (S + 1) u32 for S >= 1 and comes with `sequenceIds` */
export function requireStarts(starts: TensorRef, sequenceIds: TensorRef | undefined): void {
  requireArgument(
    sequenceIds !== undefined,
    "causalConv1d: 'starts' comes without 'sequenceIds', which keep the filters of sequences apart.",
    'Give both, or leave starts out.',
  );
  requireDtype('causalConv1d', 'starts', starts, 'u32');
  const [count = 0] = requireRank('causalConv1d', 'starts', starts, ['S + 1']);
  requireArgument(
    maximumSize(count) >= 2,
    "causalConv1d: 'starts' has no sequence.",
    'Give the first token of every sequence, and the end of the last.',
  );
  requireWhole('causalConv1d', 'starts', starts);
}
