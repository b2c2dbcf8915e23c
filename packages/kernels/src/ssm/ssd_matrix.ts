import { ssdChunkOutputMatrixShader } from '../generated/ssm/ssd_chunk_output_matrix.ts';
import { ssdChunkScoresMatrixShader } from '../generated/ssm/ssd_chunk_scores_matrix.ts';
import { ssdChunkStateMatrixShader } from '../generated/ssm/ssd_chunk_state_matrix.ts';
import { usesMatrixUnits } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { isMultiple } from '../core/size.ts';
import { gatePlace, hasSkipElements } from './ssd.ts';
import type { SsdScan } from './ssd_chunk_shared.ts';

// The three passes of ssdChunkScan that are matrix products, on matrix units. They read and write what the portable
// ones do, so that the passes around them stay the same.

/** Whether to record these passes: operands may be rounded, the sizes suit, and the device has the units. */
export function suitsMatrixUnits(recording: Recording, scan: SsdScan): boolean {
  const { sizes, padded, operands, length, xPlace, bPlace, cPlace } = scan;
  // Fragments have 16 rows and columns; eight values are loaded at a time, from multiples of four.
  const whole = sizes.headDim % 16 === 0 && sizes.stateSize % 16 === 0;
  const places = [xPlace, bPlace, cPlace, gatePlace(scan.inputs.z)].flatMap((place) => Object.values(place));
  const suits = !padded && whole && places.every((at) => isMultiple(at, 4));
  return suits && usesMatrixUnits(recording, ssdChunkStateMatrixShader, operands, length);
}

const tiles = (size: number, tile: number): number => Math.ceil(size / tile);

/** What every chunk adds to the state, and the scores: neither depends on the other. */
export function recordMatrixProducts(recording: Recording, scan: SsdScan, states: TensorRef): void {
  const { inputs, sizes, length, chunk: chunkLength, chunks, rows, steps, scores, xPlace, bPlace, cPlace } = scan;
  const { x, B, C } = inputs;
  const { heads, headDim, groups, stateSize } = sizes;
  recording.dispatch(ssdChunkStateMatrixShader, {
    bindings: { x, B, steps, states },
    params: { length, chunks, chunkLength, ...sizes, ...xPlace, ...bPlace },
    workgroups: [tiles(headDim, 64) * tiles(stateSize, 128), heads, rows],
  });
  recording.dispatch(ssdChunkScoresMatrixShader, {
    bindings: { B, C, scores },
    params: { length, chunks, chunkLength, groups, stateSize, ...bPlace, ...cPlace },
    workgroups: [tiles(chunkLength, 64) * tiles(chunkLength, 128), groups, rows],
  });
}

/** The output, after the states have been carried from chunk to chunk. */
export function recordMatrixOutput(recording: Recording, scan: SsdScan, states: TensorRef): void {
  const { inputs, sizes, length, chunk: chunkLength, chunks, rows, steps, scores, y, xPlace, cPlace } = scan;
  const { x, C, D, z, state } = inputs;
  const none = recording.placeholder();
  recording.dispatch(ssdChunkOutputMatrixShader, {
    bindings: { x, C, steps, states, scores, D: D ?? none, z: z ?? none, y },
    params: {
      length,
      chunks,
      chunkLength,
      ...sizes,
      ...xPlace,
      ...cPlace,
      ...gatePlace(z),
      firstCarried: state === undefined ? 1 : 0,
    },
    overrides: { HAS_SKIP: D !== undefined, SKIP_ELEMENTS: hasSkipElements(D), HAS_GATE: z !== undefined },
    workgroups: [tiles(chunkLength, 128) * tiles(sizes.headDim, 64), sizes.heads, rows],
  });
}
