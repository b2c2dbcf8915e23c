import { ssdChunkCarryShader } from '../generated/ssm/ssd_chunk_carry.ts';
import { ssdChunkCumsumShader } from '../generated/ssm/ssd_chunk_cumsum.ts';
import { ssdChunkOutputShader } from '../generated/ssm/ssd_chunk_output.ts';
import { ssdChunkScoresShader } from '../generated/ssm/ssd_chunk_scores.ts';
import { ssdChunkStateShader } from '../generated/ssm/ssd_chunk_state.ts';
import { requireArgument, requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, maximumSize, multiplySize } from '../core/size.ts';
import type { SsdTensors, SsdTimeOptions } from './ssd.ts';
import { loadChoice, requireSsd, timeLimits } from './ssd.ts';
import type { SsdOperands } from './ssd_matrix.ts';
import { recordMatrixOutput, recordMatrixProducts, usesMatrixUnits } from './ssd_matrix.ts';

/** `SsdTensors` with `...` = (B, L). Without `state` the scan begins at zeros. */
export type SsdChunkScanInputs = SsdTensors;

export interface SsdChunkScanOptions extends SsdTimeOptions {
  /** Q, a multiple of 16 from 16 to 256; when absent 128, or less for sequences that are shorter. */
  readonly chunkLength?: number;
  /**
   * 'f16' allows the operands of the matrix products to be rounded to float16, so that matrix units can do them where the
   * device has them and P and N are multiples of 16; sums, decays and states stay f32. 'f32' when absent.
   */
  readonly operands?: SsdOperands;
}

export interface SsdChunkScanResult {
  /** (B, L, H, P) f32, contiguous */
  readonly y: TensorRef;
  /** (B, H, P, N) f32, after the last token: `inputs.state` where it was given */
  readonly state: TensorRef;
}

/** Rows and columns of the tiles of `shared/ssd_tile`. */
const TILE = 64;
const LARGEST_CHUNK = 256;
/** Invocations of a workgroup of the carry pass. */
const CARRY_WORKGROUP = 64;

/**
 * The Mamba-2 recurrence over a whole sequence, as matrix products over chunks of Q tokens: for each head,
 * `S = exp(dt A) S + dt x B^T` and `y = S C + D x`, with `dt = clamp(softplus(dt + dtBias), low, high)`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of G, or an option is outside
 *   what it may be
 *
 * Cost: per token and head 4 N P + (Q + 1) P + (Q + 1) N G / H flops; bytes of x, B, C and y, and 16 H P N / Q a token
 * for the states between chunks. Five dispatches in four stages. Source: arXiv 2405.21060, section 6 and listing 1.
 */
export function ssdChunkScan(
  recording: Recording,
  inputs: SsdChunkScanInputs,
  options: SsdChunkScanOptions = {},
): SsdChunkScanResult {
  const kernel = 'ssdChunkScan';
  const { x, dt, A, B, C, dtBias, D } = inputs;
  const [batch = 1, length = 1] = requireRank(kernel, 'x', x, ['B', 'L', 'H', 'P']);
  const { heads, headDim, groups, stateSize } = requireSsd(kernel, inputs, [batch, length], ['B', 'L']);
  const limits = timeLimits(kernel, options);
  const chunk = chunkLengthOf(kernel, options.chunkLength, length);
  const chunks = ceilDivSize(length, chunk);
  const sequences = multiplySize(batch, chunks);

  const xStride = strideOfRows('x', x, 2);
  const bStride = strideOfRows('B', B, 2);
  const cStride = strideOfRows('C', C, 2);
  const state = inputs.state ?? recording.scratch('ssdChunkScan.state', 'f32', [batch, heads, headDim, stateSize]);
  const stateStride = strideOfRows('state', state, 3);
  const steps = recording.scratch('ssdChunkScan.steps', 'f32', [batch, chunks, heads, 3, chunk]);
  const states = recording.scratch('ssdChunkScan.states', 'f32', [batch, chunks, heads, headDim, stateSize]);
  const scores = recording.scratch('ssdChunkScan.scores', 'f32', [batch, chunks, groups, chunk, chunk]);
  const y = recording.scratch('ssdChunkScan.y', 'f32', [batch, length, heads, headDim]);

  const sizes = { length, chunks, chunkLength: chunk, heads, headDim, groups, stateSize };
  const xPlace = { xOffset: x.offset, xStride };
  const bPlace = { bOffset: B.offset, bStride };
  const cPlace = { cOffset: C.offset, cStride };
  const none = recording.placeholder();
  const tiles = (size: number): number => Math.ceil(size / TILE);

  recording.dispatch(ssdChunkCumsumShader, {
    bindings: { dt, A, dtBias: dtBias ?? none, steps },
    params: { length, chunks, heads, dtOffset: dt.offset, dtStride: strideOfRows('dt', dt, 1), ...limits },
    overrides: { CHUNK: chunk, HAS_BIAS: dtBias !== undefined, SOFTPLUS: options.dtSoftplus ?? true },
    workgroups: [heads, sequences],
  });
  // The next two do not depend on each other and run side by side.
  const places = { x: xPlace, b: bPlace, c: cPlace };
  const passes = { sizes, places, sequences, x, B, C, steps, states, scores };
  const onMatrixUnits = usesMatrixUnits(recording, options.operands ?? 'f32', length, sizes, places);
  if (onMatrixUnits) recordMatrixProducts(recording, passes);
  else {
    recording.dispatch(ssdChunkStateShader, {
      bindings: { x, B, steps, states },
      params: { ...sizes, ...xPlace, ...bPlace },
      choices: loadChoice(x.offset, xStride, headDim, B.offset, bStride, stateSize),
      workgroups: [tiles(headDim) * tiles(stateSize), heads, sequences],
    });
    recording.dispatch(ssdChunkScoresShader, {
      bindings: { B, C, scores },
      params: { length, chunks, chunkLength: chunk, groups, stateSize, ...bPlace, ...cPlace },
      choices: loadChoice(B.offset, bStride, C.offset, cStride, stateSize),
      workgroups: [tiles(chunk) ** 2, groups, sequences],
    });
  }
  const carry = loadChoice(headDim * stateSize, state.offset, stateStride);
  const carryWidth = (carry.load ?? recording.choice(ssdChunkCarryShader, 'load')) === 'vec4' ? 4 : 1;
  const elements = heads * headDim * stateSize;
  recording.dispatch(ssdChunkCarryShader, {
    bindings: { steps, states, state },
    params: {
      chunks,
      chunkLength: chunk,
      heads,
      headElements: headDim * stateSize,
      elements,
      stateOffset: state.offset,
      stateStride,
    },
    overrides: { HAS_STATE: inputs.state !== undefined, WORKGROUP_SIZE: CARRY_WORKGROUP },
    choices: carry,
    workgroups: [Math.ceil(elements / (CARRY_WORKGROUP * carryWidth)), batch],
  });
  const firstCarried = inputs.state === undefined ? 1 : 0;
  if (onMatrixUnits) {
    recordMatrixOutput(recording, { ...passes, D, z: undefined, firstCarried, y });
    return { y, state };
  }
  recording.dispatch(ssdChunkOutputShader, {
    bindings: { x, C, steps, states, scores, D: D ?? none, y },
    params: { ...sizes, ...xPlace, ...cPlace, firstCarried },
    overrides: { HAS_SKIP: D !== undefined },
    choices: loadChoice(x.offset, xStride, headDim, C.offset, cStride, stateSize),
    workgroups: [tiles(chunk) * tiles(headDim), heads, sequences],
  });
  return { y, state };
}

function chunkLengthOf(kernel: string, given: number | undefined, length: Size): number {
  if (given === undefined) return [16, 32, 64].find((chunk) => maximumSize(length) <= chunk) ?? 128;
  requireArgument(
    Number.isInteger(given) && given % 16 === 0 && given >= 16 && given <= LARGEST_CHUNK,
    `${kernel}: chunkLength ${given} is not a multiple of 16 from 16 to ${LARGEST_CHUNK}.`,
    'Use 64, 128 or 256.',
  );
  return given;
}
