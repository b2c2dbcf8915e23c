import { attentionTermsShader } from '../generated/attention/attention_terms.ts';
import { requireDtype, requireShape } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { maximumSize, multiplySize } from '../core/size.ts';

/** Slopes and sinks of the heads as one tensor, where each begins in it, and which of them there are. */
export interface HeadTerms {
  readonly terms: TensorRef;
  readonly params: { readonly slopesOffset: Size; readonly sinksOffset: Size };
  readonly overrides: { readonly HAS_SLOPES: boolean; readonly HAS_SINKS: boolean };
}

/**
 * Checks slopes and sinks, (H) f32 each, and brings them into one tensor: views of one storage are bound as they are,
 * two tensors are joined by a small dispatch.
 */
export function headTerms(
  kernel: string,
  recording: Recording,
  inputs: { readonly slopes: TensorRef | undefined; readonly sinks: TensorRef | undefined },
  heads: number,
): HeadTerms {
  const { slopes, sinks } = inputs;
  for (const [name, tensor] of Object.entries({ slopes, sinks })) {
    if (tensor === undefined) continue;
    requireDtype(kernel, name, tensor, 'f32');
    requireShape(kernel, name, tensor, [heads]);
  }
  const overrides = { HAS_SLOPES: slopes !== undefined, HAS_SINKS: sinks !== undefined };
  const params = { slopesOffset: slopes?.offset ?? 0, sinksOffset: sinks?.offset ?? 0 };
  if (slopes === undefined || sinks === undefined || slopes.storage === sinks.storage) {
    return { terms: slopes ?? sinks ?? recording.placeholder(), params, overrides };
  }
  const terms = recording.scratch(`${kernel}.terms`, 'f32', [2, heads]);
  recording.dispatch(attentionTermsShader, {
    bindings: { slopes, sinks, y: terms },
    params: { heads, ...params },
    workgroups: [Math.ceil(heads / 64)],
  });
  return { terms, params: { slopesOffset: 0, sinksOffset: heads }, overrides };
}

/** Where heads lie: from `offset` on, tokens `stride` values apart and the heads of a token `headStride`. */
export interface HeadRows {
  readonly offset: Size;
  readonly stride: number;
  readonly headStride: number;
}

/**
 * The layout of a (..., H, P) tensor whose tokens, or whose heads, may be strided: columns of a (tokens, width) matrix,
 * or of the (tokens * H, width) rows that hold a query and its gate.
 *
 * @throws ShapeError if it is strided otherwise
 */
export function headRows(name: string, tensor: TensorRef): HeadRows {
  const [heads = 1, headDim = 1] = tensor.shape.slice(-2).map(maximumSize);
  const { offset, rowWidth, rowStride } = tensor;
  if (rowWidth === headDim) return { offset, stride: heads * rowStride, headStride: rowStride };
  return { offset, stride: strideOfRows(name, tensor, 2), headStride: headDim };
}

/** Checks an additive bias (B or 1, H or 1, L, T) f32 and gives its strides, which are 0 along what is broadcast. */
export function biasRows(
  kernel: string,
  bias: TensorRef,
  shape: readonly [batch: Size, heads: number, length: Size, capacity: Size],
): { readonly row: number; readonly head: Size; readonly batch: Size } {
  requireDtype(kernel, 'bias', bias, 'f32');
  const [batch, heads, length, capacity] = shape;
  const oneSequence = bias.shape[0] === 1;
  const oneHead = bias.shape[1] === 1;
  requireShape(kernel, 'bias', bias, [oneSequence ? 1 : batch, oneHead ? 1 : heads, length, capacity]);
  const row = strideOfRows('bias', bias, 1);
  const matrix = multiplySize(length, row);
  return { row, head: oneHead ? 0 : matrix, batch: oneSequence ? 0 : multiplySize(matrix, oneHead ? 1 : heads) };
}
