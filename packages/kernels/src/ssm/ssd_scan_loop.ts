import { ssdScanLoopShader } from '../generated/ssm/ssd_scan_loop.ts';
import { requireArgument } from '../core/checks.ts';
import type { Recording } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { addSize, loadChoice } from '../core/size.ts';
import { joinRows } from './join_rows.ts';
import type { SsdSizes } from './ssd.ts';
import { gatePlace } from './ssd.ts';
import type { SsdScan } from './ssd_chunk_shared.ts';
import { outputOverrides, recordScores } from './ssd_chunk_shared.ts';

/** Largest Q of the design `loop`: outputs of one workgroup stand in registers beside the state. */
export const LOOP_CHUNK = 64;
/** Rows of the state of one workgroup. */
const ROWS = 32;
/** Columns of the state that an invocation has room for: 4 in each of 4 sets of 64. */
const LARGEST_STATE = 256;

/** States that are walked side by side from which `loop` wins: 640 of them by a sixth, 128 by nothing, 80 and 24 lose. */
const BUSY_STATES = 512;

/**
 * The design of a scan: what is asked for, else `force: { design }`, else `chunks` unless there are so many states to
 * walk that `loop` keeps every core busy (docs/kernels has the measurements).
 *
 * @param states S * H, heads of all sequences
 * @param matrix whether matrix units do the products of `chunks`
 * @throws ArgumentError if there is no such design, or N is too large for it
 */
export function chooseDesign(
  recording: Recording,
  given: string | undefined,
  { stateSize }: SsdSizes,
  { states, matrix }: { readonly states: number; readonly matrix: boolean },
): 'chunks' | 'loop' {
  const fits = stateSize <= LARGEST_STATE;
  requireArgument(
    given === undefined || given === 'chunks' || (given === 'loop' && fits),
    given === 'loop'
      ? `ssdChunkScan: the design 'loop' holds up to ${LARGEST_STATE} columns of the state; found N = ${stateSize}.`
      : `ssdChunkScan: there is no design '${given}'.`,
    given === 'loop' ? "Use 'chunks'." : "Use 'chunks' or 'loop', or leave the choice to the library.",
  );
  const many = states >= BUSY_STATES && !matrix && !recording.capabilities.software;
  const wanted = given ?? recording.force['design'] ?? (many ? 'loop' : 'chunks');
  return fits && wanted === 'loop' ? 'loop' : 'chunks';
}

/** Design `loop`: the scores beside the cumulative sums, then everything else in one dispatch. */
export function recordLoop(recording: Recording, scan: SsdScan): void {
  const { inputs, sizes, length, chunk, chunks, sequences, table, steps, scores, state, y } = scan;
  const { x, D, z } = inputs;
  const { heads, headDim, stateSize } = sizes;
  recordScores(recording, scan);
  const [B, C] = joinRows(recording, 'ssdChunkScan.joined', [
    { name: 'B', tensor: inputs.B, dimensions: 2 },
    { name: 'C', tensor: inputs.C, dimensions: 2 },
  ] as const);
  const places = {
    ...scan.xPlace,
    bOffset: B.offset,
    bStride: strideOfRows('B', B, 2),
    cOffset: C.offset,
    cStride: strideOfRows('C', C, 2),
    ...gatePlace(z),
    stateOffset: state.offset,
    stateStride: scan.stateStride,
  };
  const none = recording.placeholder();
  recording.dispatch(ssdScanLoopShader, {
    bindings: { x, BC: B, steps, scores, D: D ?? none, z: z ?? none, state, y },
    params: {
      length,
      chunks,
      chunkLength: chunk,
      ...sizes,
      ...places,
      sequences,
      table,
    },
    overrides: {
      SETS: Math.ceil(stateSize / 64),
      HAS_STATE: inputs.state !== undefined,
      ...outputOverrides(scan),
    },
    choices: loadChoice(...Object.values(places), headDim, stateSize),
    // One more fills what lies behind packed sequences.
    workgroups: [Math.ceil(headDim / ROWS), heads, addSize(sequences, scan.packed ? 1 : 0)],
  });
}
