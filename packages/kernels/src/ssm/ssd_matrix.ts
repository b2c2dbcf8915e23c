import { ssdChunkHalvesShader } from '../generated/ssm/ssd_chunk_halves.ts';
import { ssdChunkOutputMatrixShader } from '../generated/ssm/ssd_chunk_output_matrix.ts';
import { ssdChunkScoresMatrixShader } from '../generated/ssm/ssd_chunk_scores_matrix.ts';
import { ssdChunkStateMatrixShader } from '../generated/ssm/ssd_chunk_state_matrix.ts';
import { MATRIX_UNIT_TOKENS, usesMatrixUnits } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, flatGrid, isMultiple, multiplySize } from '../core/size.ts';
import { gatePlace, hasSkipElements } from './ssd.ts';
import type { SsdGiven, SsdOperands, SsdScan } from './ssd_chunk_shared.ts';

// The three passes of ssdChunkScan that are matrix products, on matrix units, and one before them that narrows B and C.
// They read and write what the portable ones do, so that the passes around them stay the same.

/** Whether to record these passes: operands may be rounded, the sizes suit, and the device has the units. */
export function suitsMatrixUnits(recording: Recording, given: SsdGiven, operands: SsdOperands): boolean {
  const { inputs, sizes, padded, length, xPlace, bPlace, cPlace, state, stateStride } = given;
  // Fragments have 16 rows and columns; eight values are loaded at a time, from multiples of four.
  const whole = sizes.headDim % 16 === 0 && sizes.stateSize % 16 === 0;
  const strided = [xPlace, bPlace, cPlace, gatePlace(inputs.z)].flatMap((place) => Object.values(place));
  const places = [...strided, state.offset, stateStride];
  const suits = !padded && whole && places.every((at) => isMultiple(at, 4));
  return suits && usesMatrixUnits(recording, ssdChunkStateMatrixShader, operands, length, MATRIX_UNIT_TOKENS);
}

const tiles = (size: number, tile: number): number => Math.ceil(size / tile);

const HALVES_WORKGROUP = 128;

/** B and C of all tokens, (B, L, G, N) f16. */
function recordHalves(
  recording: Recording,
  { inputs: { B, C }, sizes, bPlace, cPlace }: SsdScan,
): { readonly B: TensorRef; readonly C: TensorRef } {
  const [batch = 1, length = 1] = B.shape;
  const rows = multiplySize(batch, length);
  const units = (sizes.groups * sizes.stateSize) / 8;
  const halves = {
    B: recording.scratch('ssdChunkScan.B', 'f16', B.shape),
    C: recording.scratch('ssdChunkScan.C', 'f16', C.shape),
  };
  const [gridX, gridY] = flatGrid(ceilDivSize(multiplySize(rows, units), HALVES_WORKGROUP));
  recording.dispatch(ssdChunkHalvesShader, {
    bindings: { B, C, Bh: halves.B, Ch: halves.C },
    params: { rows, units, ...bPlace, ...cPlace },
    overrides: { WORKGROUP_SIZE: HALVES_WORKGROUP },
    workgroups: [gridX, gridY, 2],
  });
  return halves;
}

/** What every chunk adds to the state, and the scores: neither depends on the other. @returns C in f16, for the output */
export function recordMatrixProducts(recording: Recording, scan: SsdScan, states: TensorRef): TensorRef {
  const { inputs, sizes, length, chunk: chunkLength, chunks, rows, steps, scores, xPlace } = scan;
  const { heads, headDim, groups, stateSize } = sizes;
  const { B, C } = recordHalves(recording, scan);
  recording.dispatch(ssdChunkStateMatrixShader, {
    bindings: { x: inputs.x, B, steps, states },
    params: { length, chunks, chunkLength, ...sizes, ...xPlace },
    workgroups: [tiles(headDim, 64) * tiles(stateSize, 128), heads, rows],
  });
  recording.dispatch(ssdChunkScoresMatrixShader, {
    bindings: { B, C, scores },
    params: { length, chunks, chunkLength, groups, stateSize },
    workgroups: [tiles(chunkLength, 64) * tiles(chunkLength, 128), groups, rows],
  });
  return C;
}

/** The output, after the states have been carried from chunk to chunk. */
export function recordMatrixOutput(
  recording: Recording,
  scan: SsdScan,
  { C, entering }: { readonly C: TensorRef; readonly entering: TensorRef },
): void {
  const { inputs, sizes, length, chunk: chunkLength, chunks, rows, steps, scores, y, xPlace } = scan;
  const { x, D, z, state } = inputs;
  const none = recording.placeholder();
  recording.dispatch(ssdChunkOutputMatrixShader, {
    bindings: { x, C, steps, entering, scores, D: D ?? none, z: z ?? none, y },
    params: {
      length,
      chunks,
      chunkLength,
      ...sizes,
      ...xPlace,
      ...gatePlace(z),
      firstCarried: state === undefined ? 1 : 0,
    },
    overrides: { HAS_SKIP: D !== undefined, SKIP_ELEMENTS: hasSkipElements(D), HAS_GATE: z !== undefined },
    workgroups: [tiles(chunkLength, 128) * tiles(sizes.headDim, 64), sizes.heads, rows],
  });
}
