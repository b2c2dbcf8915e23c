import { mamba2ProjectStepShader } from '../generated/ssm/mamba2_project_step.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import {
  chooseVector,
  productOutput,
  requireFewRows,
  requireRows,
  requireVector,
  requireWeight,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { requireAligned } from './mamba2.ts';

export interface Mamba2ProjectStepInputs {
  /** (B, D) f32, B <= 8 */
  readonly x: TensorRef;
  /** (Z, D) f32, f16, bf16, q8 or q4: rows for z, then x, B and C, then dt */
  readonly weight: TensorRef;
  /** (Z) f32 */
  readonly bias?: TensorRef | undefined;
  /** (D) f32; where given, rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
  /** (E, K) f32; tap K - 1 multiplies the current input */
  readonly convWeight: TensorRef;
  /** (E) f32 */
  readonly convBias?: TensorRef | undefined;
  /** (B, K - 1, E) f32, the inputs of the convolution before the current one, oldest first; shifted by one in place */
  readonly convState: TensorRef;
}

export interface Mamba2ProjectStepOptions {
  /** Columns before those that are convolved: the width of z. */
  readonly inner: number;
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
}

const KERNEL = 'mamba2ProjectStep';

/**
 * The first pass of `mamba2DecodeStep`: the projection of one token, whose columns from `inner` on, E of them, go
 * through a causal convolution and SiLU before they are written.
 *
 * @returns (B, Z) f32, a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4, or D no multiple of 4
 *
 * Cost: 2 B Z D flops; the weights are read once for every 4 rows of x, which is what takes the time.
 */
export function mamba2ProjectStep(
  recording: Recording,
  inputs: Mamba2ProjectStepInputs,
  options: Mamba2ProjectStepOptions,
): TensorRef {
  const { x, weight, bias, normWeight, convWeight, convBias, convState } = inputs;
  const { inner } = options;
  const matrix = requireWeight(KERNEL, 'weight', weight);
  const xRows = requireRows(KERNEL, 'x', x, matrix.inner);
  const most = requireFewRows(KERNEL, xRows.rows);
  requireVector(KERNEL, 'bias', bias, matrix.outputs);
  requireVector(KERNEL, 'normWeight', normWeight, matrix.inner);
  requireAligned(KERNEL, { D: matrix.inner, 'the offset of x': xRows.offset, 'the stride of x': xRows.stride });
  if (normWeight !== undefined) requireAligned(KERNEL, { 'the offset of normWeight': normWeight.offset });
  requireDtype(KERNEL, 'convWeight', convWeight, 'f32');
  requireDtype(KERNEL, 'convState', convState, 'f32');
  const sizes = requireRank(KERNEL, 'convWeight', convWeight, ['E', 'K']);
  const [channels, taps] = [requireStatic(KERNEL, 'E', sizes[0]), requireStatic(KERNEL, 'K', sizes[1])];
  requireArgument(taps >= 2 && taps <= 4, `${KERNEL}: filters of ${taps} taps are not supported.`, 'Use 2 to 4.');
  requireVector(KERNEL, 'convBias', convBias, channels);
  requireShape(KERNEL, 'convState', convState, [xRows.rows, taps - 1, channels]);
  requireArgument(
    inner >= 0 && inner + channels <= matrix.outputs,
    `${KERNEL}: columns ${inner} to ${inner + channels} are outside a projection of ${matrix.outputs}.`,
    'The projection holds z, then what is convolved, then dt.',
  );
  const { tensor: y, view } = productOutput(recording, KERNEL, [xRows.rows, matrix.outputs], {});
  const shape = chooseVector(most, matrix, recording.capabilities, normWeight !== undefined);
  recording.dispatch(mamba2ProjectStepShader, {
    bindings: {
      x,
      weight,
      normWeight: normWeight ?? recording.placeholder(),
      bias: bias ?? recording.placeholder(),
      convWeight,
      convBias: convBias ?? recording.placeholder(),
      state: convState,
      y,
    },
    params: {
      rows: xRows.rows,
      outputs: matrix.outputs,
      width: matrix.inner,
      inner,
      channels,
      xOffset: xRows.offset,
      xStride: xRows.stride,
      weightOffset: matrix.offset,
      weightStride: matrix.stride,
      weightScales: matrix.scales,
      normOffset: normWeight?.offset ?? 0,
      biasOffset: bias?.offset ?? 0,
      convWeightOffset: convWeight.offset,
      convWeightStride: strideOfRows('convWeight', convWeight, 1),
      convBiasOffset: convBias?.offset ?? 0,
      stateOffset: convState.offset,
      stateStride: strideOfRows('convState', convState, 1),
      yOffset: view.offset,
      yStride: view.stride,
      eps: options.normEps ?? 1e-5,
    },
    overrides: {
      ...shape,
      UNROLL: !recording.capabilities.software,
      TAPS: taps,
      HAS_NORM: normWeight !== undefined,
      HAS_BIAS: bias !== undefined,
      HAS_CONV_BIAS: convBias !== undefined,
    },
    choices: { weight: matrix.dtype },
    workgroups: vectorGrid(xRows.rows, matrix.outputs, shape, shape.ROWS),
  });
  return y;
}
