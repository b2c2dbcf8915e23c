import { ssdChunkCarryShader } from '../generated/ssm/ssd_chunk_carry.ts';
import { ssdChunkOutputShader } from '../generated/ssm/ssd_chunk_output.ts';
import { ssdChunkStateShader } from '../generated/ssm/ssd_chunk_state.ts';
import type { TileShape } from '../core/matrix.ts';
import { tileColumns, tileRows } from '../core/matrix.ts';
import type { Recording } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { gatePlace, loadChoice } from './ssd.ts';
import type { SsdScan } from './ssd_chunk_shared.ts';
import { outputOverrides, recordScores, SOFTWARE_TILE } from './ssd_chunk_shared.ts';

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
  const { inputs, sizes, length, chunk, chunks, rows, packed, table, steps, scores, state, y } = scan;
  const { x, B, C, D, z } = inputs;
  const { heads, headDim, stateSize } = sizes;
  const { xPlace, bPlace, cPlace, stateStride } = scan;
  const states = recording.scratch('ssdChunkScan.states', 'f32', [rows, heads, headDim, stateSize]);
  const common = { length, chunks, chunkLength: chunk, ...sizes, table };
  const none = recording.placeholder();
  const overrides = { PACKED: packed, UNROLL: !recording.capabilities.software };
  const grid = (tile: TileShape, m: number, n: number): readonly [number, number, Size] => [
    Math.ceil(m / tileRows(tile)) * Math.ceil(n / tileColumns(tile)),
    heads,
    rows,
  ];

  const stateTile = tileOf(recording, headDim, stateSize);
  recording.dispatch(ssdChunkStateShader, {
    bindings: { x, B, steps, states },
    params: { ...common, ...xPlace, ...bPlace },
    overrides: { ...stateTile, ...overrides },
    choices: loadChoice(...Object.values(xPlace), ...Object.values(bPlace), headDim, stateSize),
    workgroups: grid(stateTile, headDim, stateSize),
  });
  recordScores(recording, scan);
  const carry = loadChoice(headDim * stateSize, state.offset, stateStride);
  const carryWidth = (carry.load ?? recording.choice(ssdChunkCarryShader, 'load')) === 'vec4' ? 4 : 1;
  const elements = heads * headDim * stateSize;
  recording.dispatch(ssdChunkCarryShader, {
    bindings: { steps, states, state },
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
    overrides: { HAS_STATE: inputs.state !== undefined, PACKED: packed, WORKGROUP_SIZE: CARRY_WORKGROUP },
    choices: carry,
    workgroups: [Math.ceil(elements / (CARRY_WORKGROUP * carryWidth)), scan.sequences],
  });
  const gate = gatePlace(z);
  const outputTile = tileOf(recording, chunk, headDim);
  recording.dispatch(ssdChunkOutputShader, {
    bindings: { x, C, steps, states, scores, D: D ?? none, z: z ?? none, y },
    // Packed sequences begin anywhere: the carry pass writes zeros for their first chunks.
    params: { ...common, ...xPlace, ...cPlace, ...gate, firstCarried: inputs.state === undefined && !packed ? 1 : 0 },
    overrides: { ...outputTile, ...outputOverrides(scan), UNROLL: overrides.UNROLL },
    choices: loadChoice(...Object.values(xPlace), ...Object.values(cPlace), ...Object.values(gate), headDim, stateSize),
    workgroups: grid(outputTile, chunk, headDim),
  });
}
