import { ssdChunkCarryShader } from '../generated/ssm/ssd_chunk_carry.ts';
import { ssdChunkOutputShader } from '../generated/ssm/ssd_chunk_output.ts';
import { ssdChunkStateShader } from '../generated/ssm/ssd_chunk_state.ts';
import type { TileShape } from '../core/matrix.ts';
import { tileColumns, tileRows } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { loadChoice } from '../core/size.ts';
import { gatePlace } from './ssd.ts';
import type { SsdScan } from './ssd_chunk_shared.ts';
import { outputOverrides, recordScores, SOFTWARE_TILE } from './ssd_chunk_shared.ts';
import { recordMatrixOutput, recordMatrixProducts } from './ssd_matrix.ts';

/** Invocations of a workgroup of the carry pass. */
const CARRY_WORKGROUP = 64;
/** 8 x 8 sums an invocation: 64 multiply-adds for 4 loads of 16 bytes from workgroup memory. `force: { tile }` is for tests. */
function tileOf(recording: Recording, rows: number, columns: number): TileShape {
  if (recording.capabilities.software && recording.force['tile'] === undefined) return SOFTWARE_TILE;
  // 128 x 128 would leave no workgroup memory for the steps.
  const wide = columns > 64;
  return { THREADS_M: rows > 64 && !wide ? 16 : 8, THREADS_N: wide ? 16 : 8, THREAD_ROWS: 8, THREAD_COLUMNS: 8 };
}

/** Design `chunks`: what every chunk adds, the scores, the states that enter, the output; the first two side by side. */
export function recordPasses(recording: Recording, scan: SsdScan): void {
  const { heads, headDim, stateSize } = scan.sizes;
  const states = recording.scratch('ssdChunkScan.states', 'f32', [scan.rows, heads, headDim, stateSize]);
  if (scan.matrix) {
    const C = recordMatrixProducts(recording, scan, states);
    const entering = recording.scratch('ssdChunkScan.entering', 'f16', states.shape);
    recordCarry(recording, scan, states, entering);
    recordMatrixOutput(recording, scan, { C, entering });
    return;
  }
  recordProducts(recording, scan, states);
  recordCarry(recording, scan, states);
  recordOutput(recording, scan, states);
}

/** Parameters and overrides that the portable products share. */
function shared(recording: Recording, { sizes, length, chunk, chunks, packed, table }: SsdScan) {
  return {
    common: { length, chunks, chunkLength: chunk, ...sizes, table },
    overrides: { PACKED: packed, UNROLL: !recording.capabilities.software },
  };
}

const gridOf = (tile: TileShape, m: number, n: number, { sizes, rows }: SsdScan): readonly [number, number, Size] => [
  Math.ceil(m / tileRows(tile)) * Math.ceil(n / tileColumns(tile)),
  sizes.heads,
  rows,
];

/** What every chunk adds to the state, and the scores: neither depends on the other. */
function recordProducts(recording: Recording, scan: SsdScan, states: TensorRef): void {
  const { inputs, sizes, steps, xPlace, bPlace } = scan;
  const { headDim, stateSize } = sizes;
  const { common, overrides } = shared(recording, scan);
  const stateTile = tileOf(recording, headDim, stateSize);
  recording.dispatch(ssdChunkStateShader, {
    bindings: { x: inputs.x, B: inputs.B, steps, states },
    params: { ...common, ...xPlace, ...bPlace },
    overrides: { ...stateTile, ...overrides },
    choices: loadChoice(...Object.values(xPlace), ...Object.values(bPlace), headDim, stateSize),
    workgroups: gridOf(stateTile, headDim, stateSize, scan),
  });
  recordScores(recording, scan);
}

/** The state that enters each chunk, in place of what the chunk adds or as f16 to `entering`, and the last one. */
function recordCarry(recording: Recording, scan: SsdScan, states: TensorRef, entering?: TensorRef): void {
  const { inputs, sizes, chunk, chunks, packed, table, steps, state, stateStride } = scan;
  const { heads, headDim, stateSize } = sizes;
  const carry = loadChoice(headDim * stateSize, state.offset, stateStride);
  const carryWidth = (carry.load ?? recording.choice(ssdChunkCarryShader, 'load')) === 'vec4' ? 4 : 1;
  const elements = heads * headDim * stateSize;
  recording.dispatch(ssdChunkCarryShader, {
    bindings: { steps, states, state, entering: entering ?? recording.placeholder('f16') },
    params: {
      chunks,
      chunkLength: chunk,
      heads,
      elements,
      table,
      stateStride,
      headElements: headDim * stateSize,
      stateOffset: state.offset,
    },
    overrides: {
      HAS_STATE: inputs.state !== undefined,
      PACKED: packed,
      HALVES: entering !== undefined,
      WORKGROUP_SIZE: CARRY_WORKGROUP,
    },
    choices: carry,
    workgroups: [Math.ceil(elements / (CARRY_WORKGROUP * carryWidth)), scan.sequences],
  });
}

/** What entered each chunk and its own tokens, to y. */
function recordOutput(recording: Recording, scan: SsdScan, states: TensorRef): void {
  const { inputs, sizes, chunk, packed, steps, scores, y, xPlace, cPlace } = scan;
  const { x, C, D, z } = inputs;
  const { headDim, stateSize } = sizes;
  const { common, overrides } = shared(recording, scan);
  const none = recording.placeholder();
  const gate = gatePlace(z);
  const outputTile = tileOf(recording, chunk, headDim);
  recording.dispatch(ssdChunkOutputShader, {
    bindings: { x, C, steps, states, scores, D: D ?? none, z: z ?? none, y },
    // Packed sequences begin anywhere: the carry pass writes zeros for their first chunks.
    params: { ...common, ...xPlace, ...cPlace, ...gate, firstCarried: inputs.state === undefined && !packed ? 1 : 0 },
    overrides: { ...outputTile, ...outputOverrides(scan), UNROLL: overrides.UNROLL },
    choices: loadChoice(...Object.values(xPlace), ...Object.values(cPlace), ...Object.values(gate), headDim, stateSize),
    workgroups: gridOf(outputTile, chunk, headDim, scan),
  });
}
