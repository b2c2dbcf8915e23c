import { layerNormShader } from '../generated/norm/layer_norm.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { productSize } from '../core/size.ts';
import type { RowTileOption } from './rows.ts';
import { planRows, requireNorm } from './rows.ts';

export interface LayerNormInputs {
  /** (..., D) f32; rows may be strided */
  readonly x: TensorRef;
  /** (D) f32; absent for the weightless form */
  readonly weight?: TensorRef;
  /** (D) f32 */
  readonly bias?: TensorRef;
}

export interface LayerNormOptions extends RowTileOption {
  /** Added to the variance; 1e-5 when absent. */
  readonly eps?: number;
  /** 1 for models that store w - 1 (LayerNorm-1P of Megatron); 0 when absent. */
  readonly weightOffset?: number;
}

/**
 * Layer normalisation of rows: `y = (x - mean(x)) / sqrt(variance(x) + eps) * (weight + weightOffset) + bias`. The
 * variance is the mean square of `x - mean`, so that a large mean costs no digits.
 *
 * @returns (..., D) f32, contiguous
 * @throws ShapeError if `weight` or `bias` is not (D) f32 or x is not f32; ArgumentError if one of them is a part of a
 *   tensor or `eps` is negative
 *
 * Cost: 8 D flops and 8 D bytes a row. Source: arXiv 1607.06450; `torch.nn.functional.layer_norm`.
 */
export function layerNorm(recording: Recording, inputs: LayerNormInputs, options: LayerNormOptions = {}): TensorRef {
  const { x, weight, bias } = inputs;
  const { eps = 1e-5 } = options;
  const channels = requireNorm('layerNorm', x, { weight, bias }, eps);
  const rows = productSize(x.shape.slice(0, -1));
  const { access, places, width, overrides, workgroups } = planRows(
    recording,
    'layerNorm',
    { channels, rows },
    { x: { offset: x.offset, stride: strideOfRows('x', x, 1) } },
    options.tile,
  );
  const y = recording.scratch('layerNorm.y', 'f32', x.shape);
  recording.dispatch(layerNormShader, {
    bindings: { x, weight: weight ?? recording.placeholder(), bias: bias ?? recording.placeholder(), y },
    params: {
      rows,
      width,
      channels,
      xOffset: places.x.offset,
      xStride: places.x.stride,
      yStride: width,
      eps,
      weightOffset: options.weightOffset ?? 0,
    },
    overrides: { ...overrides, HAS_WEIGHT: weight !== undefined, HAS_BIAS: bias !== undefined },
    choices: { access },
    workgroups,
  });
  return y;
}
