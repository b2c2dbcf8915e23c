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
import { addSize, ceilDivSize, maximumSize, multiplySize } from '../core/size.ts';
import type { SsdTensors, SsdTimeOptions } from './ssd.ts';
import { requireSsd, timeLimits } from './ssd.ts';
import { recordPasses } from './ssd_chunk_passes.ts';
import type { SsdGiven, SsdOperands, SsdScan } from './ssd_chunk_shared.ts';
import { recordCumsum } from './ssd_chunk_shared.ts';
import { suitsMatrixUnits } from './ssd_matrix.ts';
import { chooseDesign, LOOP_CHUNK, recordLoop } from './ssd_scan_loop.ts';

/** `SsdTensors` with `...` = (B, L). Without `state` the scan begins at zeros. */
export interface SsdChunkScanInputs extends SsdTensors {
  /**
   * (B, L) i32: where it differs from the token before, the state begins again at zeros. Below zero it marks padding:
   * its y is 0 and the state stays as it is.
   */
  readonly sequenceIds?: TensorRef;
  /**
   * (S + 1) u32, ascending from 0, for B = 1: sequence s is the tokens from starts[s] to starts[s + 1] - 1, and `state`
   * is (S, H, P, N), one of every sequence. Tokens from starts[S] on are padding.
   */
  readonly starts?: TensorRef;
}

export interface SsdChunkScanOptions extends SsdTimeOptions {
  /**
   * Q, a multiple of 16 from 16 to 256; when absent 128 (256 on matrix units), or less for sequences that are shorter.
   */
  readonly chunkLength?: number;
  /**
   * `chunks`: chunks side by side, the states between them in memory. `loop`: the chunks of a head one after another,
   * of at most 64 tokens, the state in registers. When absent, `chooseDesign` chooses.
   */
  readonly design?: 'chunks' | 'loop';
  /**
   * 'f16' allows the operands of the matrix products to be rounded to float16, so that matrix units can do them: where the
   * device has them, P and N are multiples of 16, and sequences are neither packed nor padded. Sums, decays and states
   * stay f32. 'f32' when absent.
   */
  readonly operands?: SsdOperands;
}

export interface SsdChunkScanResult {
  /** (B, L, H, P) f32, contiguous */
  readonly y: TensorRef;
  /** (B, H, P, N) f32, or (S, H, P, N), after the last token: `inputs.state` where it was given */
  readonly state: TensorRef;
}

const LARGEST_CHUNK = 256;

/**
 * The Mamba-2 recurrence over a whole sequence, as matrix products over chunks of Q tokens: for each head,
 * `S = exp(dt A) S + dt x B^T` and `y = (S C + D x) silu(z)`, with `dt = clamp(softplus(dt + dtBias), low, high)`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of G, or an option is outside
 *   what it may be
 *
 * Cost: per token and head 4 N P + (Q + 1) P + (Q + 1) N G / H flops; bytes of x, B, C and y, and 16 H P N / Q a token
 * for the states between chunks. Five dispatches in four stages; the design `loop` has no states between chunks, and
 * three dispatches in two stages. Source: arXiv 2405.21060, section 6 and listing 1.
 */
export function ssdChunkScan(
  recording: Recording,
  inputs: SsdChunkScanInputs,
  options: SsdChunkScanOptions = {},
): SsdChunkScanResult {
  const kernel = 'ssdChunkScan';
  const { x, B, C, sequenceIds, starts } = inputs;
  const [batch = 1, length = 1] = requireRank(kernel, 'x', x, ['B', 'L', 'H', 'P']);
  const sequences = starts === undefined ? batch : requireStarts(kernel, starts, batch);
  const sizes = requireSsd(kernel, inputs, [batch, length], ['B', 'L'], sequences);
  const { heads, headDim, groups, stateSize } = sizes;
  if (sequenceIds !== undefined) {
    requireDtype(kernel, 'sequenceIds', sequenceIds, 'i32');
    requireShape(kernel, 'sequenceIds', sequenceIds, [batch, length]);
    requireWhole(kernel, 'sequenceIds', sequenceIds);
  }
  const limits = timeLimits(kernel, options);
  const packed = starts !== undefined;
  const state = inputs.state ?? recording.scratch(`${kernel}.state`, 'f32', [sequences, heads, headDim, stateSize]);
  const given: SsdGiven = {
    inputs,
    sizes,
    length,
    padded: packed || sequenceIds !== undefined,
    state,
    stateStride: strideOfRows('state', state, 3),
    xPlace: { xOffset: x.offset, xStride: strideOfRows('x', x, 2) },
    bPlace: { bOffset: B.offset, bStride: strideOfRows('B', B, 2) },
    cPlace: { cOffset: C.offset, cStride: strideOfRows('C', C, 2) },
  };
  const suits = suitsMatrixUnits(recording, given, options.operands ?? 'f32');
  const largest = chunkLengthOf(kernel, options.chunkLength, length, suits ? LARGEST_CHUNK : 128);
  const states = maximumSize(sequences) * heads;
  const design = chooseDesign(recording, options.design, sizes, { states, matrix: suits });
  const chunk = design === 'loop' ? Math.min(largest, LOOP_CHUNK) : largest;
  const matrix = suits && design === 'chunks';

  // Every packed sequence has chunks of its own, so that up to one chunk each is not full (see ssd_chunk_cumsum).
  const chunks = addSize(ceilDivSize(length, chunk), packed ? sequences : 0);
  const rows = multiplySize(batch, chunks);
  const table = multiplySize(chunks, heads * 3 * chunk);
  const tableValues = packed ? multiplySize(addSize(chunks, addSize(sequences, 1)), 2) : 0;
  const stepRows = addSize(rows, ceilDivSize(tableValues, heads * 3 * chunk));
  const y = recording.scratch(`${kernel}.y`, 'f32', [batch, length, heads, headDim]);
  const scan: SsdScan = {
    ...given,
    chunk,
    chunks,
    rows,
    sequences,
    packed,
    table,
    steps: recording.scratch(`${kernel}.steps`, 'f32', [stepRows, heads, 3, chunk]),
    scores: recording.scratch(`${kernel}.scores`, matrix ? 'f16' : 'f32', [rows, groups, chunk, chunk]),
    y,
    matrix,
  };
  recordCumsum(recording, scan, options, limits);
  (design === 'loop' ? recordLoop : recordPasses)(recording, scan);
  return { y, state };
}

function chunkLengthOf(kernel: string, given: number | undefined, length: Size, most: number): number {
  if (given === undefined)
    return Math.min(most, [16, 32, 64, 128].find((chunk) => maximumSize(length) <= chunk) ?? most);
  requireArgument(
    Number.isInteger(given) && given % 16 === 0 && given >= 16 && given <= LARGEST_CHUNK,
    `${kernel}: chunkLength ${given} is not a multiple of 16 from 16 to ${LARGEST_CHUNK}.`,
    'Use 64, 128 or 256.',
  );
  return given;
}

/** S, the number of packed sequences. */
function requireStarts(kernel: string, starts: TensorRef, batch: Size): number {
  requireDtype(kernel, 'starts', starts, 'u32');
  const [ends] = requireRank(kernel, 'starts', starts, ['S + 1']);
  requireWhole(kernel, 'starts', starts);
  requireArgument(
    batch === 1,
    `${kernel}: 'starts' packs sequences into one row; found more rows.`,
    'Give x, dt, B and C with B = 1 and all sequences one after another.',
  );
  const sequences = requireStatic(kernel, 'S + 1', ends) - 1;
  requireArgument(
    sequences >= 1,
    `${kernel}: 'starts' has ${sequences + 1} entries, which bound no sequence.`,
    'Give the first token of every sequence, and the end of the last.',
  );
  return sequences;
}
