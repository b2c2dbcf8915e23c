import { rmsNormShader } from '../generated/norm/rms_norm.ts';
import { requireArgument } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { productSize } from '../core/size.ts';
import type { RowTileOption } from './rows.ts';
import { planRows, requireNorm, rowsLike } from './rows.ts';

export interface RmsNormInputs {
  /** (..., D) f32; rows may be strided */
  readonly x: TensorRef;
  /** (D) f32; absent for the weightless form */
  readonly weight?: TensorRef;
  /** (..., D) f32, updated in place: x is added to it, and the sum is what is normalised */
  readonly residual?: TensorRef;
  /** (..., D) f32, updated in place: the result is added to it; not together with `residual` */
  readonly addTo?: TensorRef;
}

export interface RmsNormOptions extends RowTileOption {
  /** Added to the mean square; 1e-5 when absent. */
  readonly eps?: number;
  /** 1 for models that store w - 1 (Gemma, Qwen3-Next); 0 when absent. */
  readonly weightOffset?: number;
}

/**
 * Root-mean-square normalisation of rows: `y = x / sqrt(mean(x^2) + eps) * (weight + weightOffset)`. With `residual`
 * first `residual += x`, which then takes the place of x. With `addTo` (the norm behind a layer of Gemma 3 and OLMo 2)
 * `addTo += y` takes the place of y.
 *
 * @returns (..., D) f32: `addTo`, or a new tensor, contiguous
 * @throws ShapeError if `weight` is not (D) f32, x, `residual` or `addTo` not f32 of one shape, or one that is written
 *   shares its storage with another; ArgumentError if `weight` is a part of a tensor, `eps` is negative, or `residual` and
 *   `addTo` are both given
 *
 * Cost: 4 D flops and 8 D bytes a row (5 D and 16 D with a residual, 5 D and 12 D with `addTo`). Source: arXiv 1910.07467.
 */
export function rmsNorm(recording: Recording, inputs: RmsNormInputs, options: RmsNormOptions = {}): TensorRef {
  const { x, weight, residual, addTo } = inputs;
  const { eps = 1e-5 } = options;
  const channels = requireNorm('rmsNorm', x, { weight }, eps);
  requireArgument(
    residual === undefined || addTo === undefined,
    "rmsNorm: 'residual' takes x before the norm and 'addTo' the result.",
    'Give one of them.',
  );
  const rows = productSize(x.shape.slice(0, -1));
  const xPlace = { offset: x.offset, stride: strideOfRows('x', x, 1) };
  const { access, places, width, overrides, workgroups } = planRows(
    recording,
    'rmsNorm',
    { channels, rows },
    {
      x: xPlace,
      residual: residual === undefined ? xPlace : rowsLike('rmsNorm', 'residual', residual, x),
      y: addTo === undefined ? { offset: 0, stride: channels } : rowsLike('rmsNorm', 'addTo', addTo, x),
    },
    options.tile,
  );
  const y = addTo ?? recording.scratch('rmsNorm.y', 'f32', x.shape);
  recording.dispatch(rmsNormShader, {
    bindings: {
      x,
      weight: weight ?? recording.placeholder(),
      // What is written needs a buffer of its own: sharing the placeholder would make norms wait for each other.
      residual: residual ?? recording.scratch('rmsNorm.none', 'f32', [4]),
      y,
    },
    params: {
      rows,
      width,
      channels,
      xOffset: places.x.offset,
      xStride: places.x.stride,
      residualOffset: places.residual.offset,
      residualStride: places.residual.stride,
      yOffset: places.y.offset,
      yStride: places.y.stride,
      eps,
      weightOffset: options.weightOffset ?? 0,
    },
    overrides: {
      ...overrides,
      HAS_WEIGHT: weight !== undefined,
      HAS_RESIDUAL: residual !== undefined,
      ADDS: addTo !== undefined,
    },
    choices: { access },
    workgroups,
  });
  return y;
}
