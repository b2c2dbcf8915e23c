import { embedShader } from '../generated/token/embed.ts';
import { requireDtype } from '../core/checks.ts';
import { requireWeight } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, multiplySize, productSize } from '../core/size.ts';

export interface EmbedInputs {
  /** (V, D) f32, f16, bf16, q8 or q4; rows padded as `packMatrix` makes them */
  readonly table: TensorRef;
  /** (L) or (B, L) u32 */
  readonly tokens: TensorRef;
}

export interface EmbedOptions {
  /** Multiplies every value; 1 when absent. */
  readonly scale?: number;
}

const WORKGROUP_SIZE = 64;

/**
 * Rows of the embedding table: `y[..., :] = scale * table[tokens[...], :]`. A token outside of the vocabulary gives a
 * row of zeros: the GPU cannot raise an error.
 *
 * @returns (L, D) or (B, L, D) f32, rows at a multiple of 4 values
 * @throws ShapeError if `table` is no (V, D) matrix of a dtype above with padded rows, or `tokens` is not u32
 *
 * Cost: D flops, 4 D bytes and a row of the table for each token.
 */
export function embed(recording: Recording, inputs: EmbedInputs, options: EmbedOptions = {}): TensorRef {
  const { table, tokens } = inputs;
  const {
    dtype,
    outputs: vocabSize,
    inner: hiddenSize,
    offset,
    stride,
    scales,
  } = requireWeight('embed', 'table', table);
  requireDtype('embed', 'tokens', tokens, 'u32');
  const tokensWidth = tokens.shape[tokens.shape.length - 1] ?? 1;
  const rows = productSize(tokens.shape);
  const octets = Math.ceil(hiddenSize / 8);
  const rowStride = Math.ceil(hiddenSize / 4) * 4;
  const y = recording.scratch('embed.y', 'f32', [...tokens.shape, hiddenSize], rowStride);
  recording.dispatch(embedShader, {
    bindings: { table, tokens, y },
    params: {
      rows,
      octets,
      quads: rowStride / 4,
      vocabSize,
      tableOffset: ceilDivSize(offset, 8),
      tableStride: stride / 8,
      tableScales: scales,
      tokensOffset: tokens.offset,
      tokensWidth,
      tokensStride: strideOfRows('tokens', tokens, 1),
      scale: options.scale ?? 1,
    },
    overrides: { WORKGROUP_SIZE },
    choices: { weight: dtype },
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, octets), WORKGROUP_SIZE)),
  });
  return y;
}
