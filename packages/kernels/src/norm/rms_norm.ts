import { rmsNormShader } from '../generated/norm/rms_norm.ts';
import type { Capabilities } from '../core/capabilities.ts';
import { requireArgument, requireDtype, requireShape } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { flatGrid, maximumSize, productSize } from '../core/size.ts';

export interface RmsNormInputs {
  /** (..., D) f32; rows may be strided */
  readonly x: TensorRef;
  /** (D) f32; absent for the weightless form */
  readonly weight?: TensorRef;
}

export interface RmsNormOptions {
  /** Added to the mean square; 1e-5 when absent. */
  readonly eps?: number;
  /** 1 for models that store w - 1 (Gemma, Qwen3-Next); 0 when absent. */
  readonly weightOffset?: number;
}

/**
 * Root-mean-square normalisation of rows: `y = x / sqrt(mean(x^2) + eps) * (weight + weightOffset)`.
 *
 * @returns (..., D) f32, contiguous
 * @throws ShapeError if `weight` is not (D) f32 or `x` is not f32; ArgumentError if `weight` is a part of a tensor
 *
 * Cost: 4 D flops and 8 D bytes a row. Source: arXiv 1910.07467.
 */
export function rmsNorm(recording: Recording, inputs: RmsNormInputs, options: RmsNormOptions = {}): TensorRef {
  const { x, weight } = inputs;
  requireDtype('rmsNorm', 'x', x, 'f32');
  const width = maximumSize(x.shape[x.shape.length - 1] ?? 0);
  if (weight !== undefined) {
    requireDtype('rmsNorm', 'weight', weight, 'f32');
    requireShape('rmsNorm', 'weight', weight, [width]);
    requireArgument(weight.offset === 0, "rmsNorm: 'weight' is a part of a tensor.", 'Give a tensor of its own.');
  }
  const rows = productSize(x.shape.slice(0, -1));
  const y = recording.scratch('rmsNorm.y', 'f32', x.shape);
  recording.dispatch(rmsNormShader, {
    bindings: { x, weight: weight ?? recording.placeholder(), y },
    params: {
      rows,
      width,
      xOffset: x.offset,
      xStride: strideOfRows('x', x, 1),
      yStride: y.rowStride,
      eps: options.eps ?? 1e-5,
      weightOffset: options.weightOffset ?? 0,
    },
    overrides: { HAS_WEIGHT: weight !== undefined, WORKGROUP_SIZE: invocationsFor(width, recording.capabilities) },
    workgroups: flatGrid(rows),
  });
  return y;
}

/** Invocations for a row: a few values each, so that short rows do not wait for idle ones. */
function invocationsFor(width: number, { software }: Capabilities): number {
  // A CPU switches between the subgroups of a workgroup at every barrier: one subgroup has none to switch to.
  if (software) return 4;
  return [32, 64, 128].find((size) => size * 8 >= width) ?? 256;
}
