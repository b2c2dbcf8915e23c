import { ssdChunkCumsumShader } from '../generated/ssm/ssd_chunk_cumsum.ts';
import { ssdChunkScoresShader } from '../generated/ssm/ssd_chunk_scores.ts';
import type { TileShape } from '../core/matrix.ts';
import { tileColumns, tileRows } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { loadChoice, maximumSize, multiplySize } from '../core/size.ts';
import type { SsdSizes, SsdTensors, SsdTimeOptions } from './ssd.ts';
import { hasSkipElements } from './ssd.ts';

/** Dtype that the operands of the matrix products may be rounded to: matrix units take f16. */
export type SsdOperands = 'f32' | 'f16';

/** What all passes of `ssdChunkScan` share. */
export interface SsdScan {
  readonly inputs: SsdTensors & { readonly sequenceIds?: TensorRef; readonly starts?: TensorRef };
  readonly sizes: SsdSizes;
  readonly length: Size;
  /** Q */
  readonly chunk: number;
  /** Chunks of a row, and of all rows. */
  readonly chunks: Size;
  readonly rows: Size;
  /** B, or S where sequences are packed. */
  readonly sequences: Size;
  readonly packed: boolean;
  /** Whether tokens may belong to no sequence. */
  readonly padded: boolean;
  /** Where the table of `ssd_chunk_cumsum` begins in `steps`. */
  readonly table: Size;
  /** (B, chunks, H, 3, Q): dt and the cumulative sums of dt A in two parts */
  readonly steps: TensorRef;
  /** (B, chunks, G, Q, Q), [j, i]: f16 for matrix units, else f32 */
  readonly scores: TensorRef;
  readonly state: TensorRef;
  readonly stateStride: number;
  readonly y: TensorRef;
  readonly xPlace: { readonly xOffset: Size; readonly xStride: number };
  readonly bPlace: { readonly bOffset: Size; readonly bStride: number };
  readonly cPlace: { readonly cOffset: Size; readonly cStride: number };
  /** Whether matrix units do the products. */
  readonly matrix: boolean;
}

/** What is known of a scan before its chunks are: enough to choose who does the products. */
export type SsdGiven = Pick<
  SsdScan,
  'inputs' | 'sizes' | 'length' | 'padded' | 'state' | 'stateStride' | 'xPlace' | 'bPlace' | 'cPlace'
>;

/** Workgroups below which tiles of the scores are made smaller. */
const BUSY_WORKGROUPS = 256;

/** For CPUs: half as long to compile as 8 x 8 sums, no slower, and one for all shapes. */
export const SOFTWARE_TILE: TileShape = { THREADS_M: 8, THREADS_N: 16, THREAD_ROWS: 8, THREAD_COLUMNS: 4 };

/** The tile of the scores of chunks of Q tokens, of which there are `squares`. */
function scoreTile(recording: Recording, chunk: number, squares: Size): TileShape {
  const forced = recording.force['tile'];
  if (recording.capabilities.software && forced === undefined) return SOFTWARE_TILE;
  const tiles = Math.ceil(chunk / 64);
  // Smaller ones also skip more above the diagonal.
  const few = ((tiles * (tiles + 1)) / 2) * maximumSize(squares) < BUSY_WORKGROUPS;
  const size = forced === 'small' || (few && forced !== 'large') ? 4 : 8;
  return { THREADS_M: 8, THREADS_N: 8, THREAD_ROWS: size, THREAD_COLUMNS: size };
}

/** Overrides of what happens to y last. */
export function outputOverrides({ inputs: { D, z }, padded, packed }: SsdScan): {
  readonly [name in 'HAS_SKIP' | 'SKIP_ELEMENTS' | 'HAS_GATE' | 'HAS_PADDING' | 'PACKED']: boolean;
} {
  return {
    HAS_SKIP: D !== undefined,
    SKIP_ELEMENTS: hasSkipElements(D),
    HAS_GATE: z !== undefined,
    HAS_PADDING: padded,
    PACKED: packed,
  };
}

/** First pass of both designs: time steps and cumulative sums, and the table of packed sequences. */
export function recordCumsum(
  recording: Recording,
  { inputs, sizes, length, chunk, chunks, rows, sequences, packed, table, steps }: SsdScan,
  options: SsdTimeOptions,
  limits: { readonly low: number; readonly high: number },
): void {
  const { dt, A, dtBias, sequenceIds, starts } = inputs;
  recording.dispatch(ssdChunkCumsumShader, {
    bindings: {
      dt,
      A,
      dtBias: dtBias ?? recording.placeholder(),
      sequenceIds: sequenceIds ?? recording.placeholder('i32'),
      starts: starts ?? recording.placeholder('u32'),
      steps,
    },
    params: {
      length,
      chunks,
      heads: sizes.heads,
      dtOffset: dt.offset,
      dtStride: strideOfRows('dt', dt, 1),
      sequences,
      table,
      ...limits,
    },
    overrides: {
      CHUNK: chunk,
      HAS_BIAS: dtBias !== undefined,
      SOFTPLUS: options.dtSoftplus ?? true,
      HAS_IDS: sequenceIds !== undefined,
      PACKED: packed,
    },
    workgroups: [sizes.heads, rows],
  });
}

/** The pass of the scores, which needs nothing of the others but where packed sequences lie. */
export function recordScores(recording: Recording, scan: SsdScan): void {
  const { inputs, sizes, length, chunk, chunks, rows, packed, table, steps, scores, bPlace, cPlace } = scan;
  const { groups, stateSize } = sizes;
  const tile = scoreTile(recording, chunk, multiplySize(rows, groups));
  recording.dispatch(ssdChunkScoresShader, {
    bindings: { B: inputs.B, C: inputs.C, steps: packed ? steps : recording.placeholder(), scores },
    params: { length, chunks, chunkLength: chunk, groups, stateSize, ...bPlace, ...cPlace, table },
    overrides: { ...tile, PACKED: packed, UNROLL: !recording.capabilities.software },
    choices: loadChoice(...Object.values(bPlace), ...Object.values(cPlace), stateSize),
    workgroups: [Math.ceil(chunk / tileRows(tile)) * Math.ceil(chunk / tileColumns(tile)), groups, rows],
  });
}
