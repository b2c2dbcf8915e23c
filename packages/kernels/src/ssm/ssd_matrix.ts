import { ssdChunkOutputMatrixShader } from '../generated/ssm/ssd_chunk_output_matrix.ts';
import { ssdChunkScoresMatrixShader } from '../generated/ssm/ssd_chunk_scores_matrix.ts';
import { ssdChunkStateMatrixShader } from '../generated/ssm/ssd_chunk_state_matrix.ts';
import { chooseUnit } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { isMultiple } from '../core/size.ts';
import type { SsdSizes } from './ssd.ts';

// The three passes of ssdChunkScan that are matrix products, on matrix units. They read and write what the portable
// ones do, so that the passes around them stay the same.

/** Dtype that the operands of the products may be rounded to: matrix units take f16. */
export type SsdOperands = 'f32' | 'f16';

/** Rows of heads and groups as shaders address them, in values. */
export interface SsdPlaces {
  readonly x: { readonly xOffset: Size; readonly xStride: number };
  readonly b: { readonly bOffset: Size; readonly bStride: number };
  readonly c: { readonly cOffset: Size; readonly cStride: number };
}

/** Whether to record these passes: operands may be rounded, the sizes suit, and the device has the units. */
export function usesMatrixUnits(
  recording: Recording,
  operands: SsdOperands,
  length: Size,
  sizes: SsdSizes,
  places: SsdPlaces,
): boolean {
  const { x, b, c } = places;
  // Fragments have 16 rows and columns; eight values are loaded at a time, from multiples of four.
  const whole = sizes.headDim % 16 === 0 && sizes.stateSize % 16 === 0;
  const aligned = [x.xOffset, x.xStride, b.bOffset, b.bStride, c.cOffset, c.cStride].every((at) => isMultiple(at, 4));
  return whole && aligned && chooseUnit(recording, ssdChunkStateMatrixShader, operands, length) === 'matrix';
}

interface Passes {
  readonly sizes: SsdSizes & { readonly length: Size; readonly chunks: Size; readonly chunkLength: number };
  readonly places: SsdPlaces;
  /** B times the number of chunks. */
  readonly sequences: Size;
  readonly x: TensorRef;
  readonly B: TensorRef;
  readonly C: TensorRef;
  readonly steps: TensorRef;
  readonly states: TensorRef;
  readonly scores: TensorRef;
}

const tiles = (size: number, tile: number): number => Math.ceil(size / tile);

/** States and scores, which do not depend on each other. */
export function recordMatrixProducts(recording: Recording, passes: Passes): void {
  const { sizes, places, sequences, x, B, C, steps, states, scores } = passes;
  const { length, chunks, chunkLength, heads, headDim, groups, stateSize } = sizes;
  recording.dispatch(ssdChunkStateMatrixShader, {
    bindings: { x, B, steps, states },
    params: { ...sizes, ...places.x, ...places.b },
    workgroups: [tiles(headDim, 64) * tiles(stateSize, 128), heads, sequences],
  });
  recording.dispatch(ssdChunkScoresMatrixShader, {
    bindings: { B, C, scores },
    params: { length, chunks, chunkLength, groups, stateSize, ...places.b, ...places.c },
    workgroups: [tiles(chunkLength, 64) * tiles(chunkLength, 128), groups, sequences],
  });
}

/** Output, after the states have been carried from chunk to chunk. */
export function recordMatrixOutput(
  recording: Recording,
  passes: Passes & {
    readonly D: TensorRef | undefined;
    readonly z: { readonly tensor: TensorRef; readonly zOffset: Size; readonly zStride: number } | undefined;
    readonly firstCarried: number;
    readonly y: TensorRef;
  },
): void {
  const { sizes, places, sequences, x, C, steps, states, scores, D, z, firstCarried, y } = passes;
  const none = recording.placeholder();
  recording.dispatch(ssdChunkOutputMatrixShader, {
    bindings: { x, C, steps, states, scores, D: D ?? none, z: z?.tensor ?? none, y },
    params: {
      ...sizes,
      ...places.x,
      ...places.c,
      firstCarried,
      zOffset: z?.zOffset ?? 0,
      zStride: z?.zStride ?? 0,
    },
    overrides: {
      HAS_SKIP: D !== undefined,
      SKIP_ELEMENTS: D !== undefined && D.shape.length === 2,
      HAS_GATE: z !== undefined,
    },
    workgroups: [tiles(sizes.chunkLength, 128) * tiles(sizes.headDim, 64), sizes.heads, sequences],
  });
}
