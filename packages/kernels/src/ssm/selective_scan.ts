// Longer than most host halves: three passes share their parameters.
import { selectiveScanShader } from '../generated/ssm/selective_scan.ts';
import { selectiveScanCarryShader } from '../generated/ssm/selective_scan_carry.ts';
import { selectiveScanStatesShader } from '../generated/ssm/selective_scan_states.ts';
import { requireArgument, requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, maximumSize } from '../core/size.ts';
import type { SelectiveTensors } from './selective.ts';
import { pairUp, placeOf, requireSelective } from './selective.ts';
import type { SsdTimeOptions } from './ssd.ts';
import { timeLimits } from './ssd.ts';

/** `SelectiveTensors` with `...` = (B, L). Without `state` the scan begins at zeros. */
export type SelectiveScanInputs = SelectiveTensors;

export interface SelectiveScanOptions extends SsdTimeOptions {
  /**
   * Q, tokens that are walked one after another; when absent, as many as leave the device enough to do at once. Chunks
   * run side by side for twice the work, a sequence of at most Q tokens in one dispatch.
   */
  readonly chunkLength?: number;
}

export interface SelectiveScanResult {
  /** (B, L, E) f32, contiguous */
  readonly y: TensorRef;
  /** (B, E, N) f32, after the last token: `inputs.state` where it was given */
  readonly state: TensorRef;
}

/** Invocations of a workgroup of the carry pass. */
const CARRY_WORKGROUP = 64;
/** Bytes of workgroup memory that every device has. */
const WORKGROUP_BYTES = 16_384;
/** Invocations of all chunks together from which more would only add to the states between them. */
const WANTED_INVOCATIONS = 1_048_576;
/** Shorter sequences take less than the two further dispatches. */
const LEAST_CHUNK = 128;

/**
 * The Mamba-1 recurrence over a whole sequence: for each channel with its N states, `h = exp(dt A) h + dt B u` and
 * `y = (C h + D u) silu(z)`, with `dt = clamp(softplus(dt + dtBias), low, high)`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if E is not a multiple of G, N is above 256, or an
 *   option is outside what it may be
 *
 * Cost: L E N exponentials and 6 L E N flops, 10 and twice the exponentials in chunks; 16 L E + 8 L G N bytes. One
 * dispatch, three in chunks. Source: arXiv 2312.00752, algorithm 2 and section 3.3.2.
 */
export function selectiveScan(
  recording: Recording,
  inputs: SelectiveScanInputs,
  options: SelectiveScanOptions = {},
): SelectiveScanResult {
  const kernel = 'selectiveScan';
  const { u, dt, A, dtBias, D, z } = inputs;
  const [batch = 1, length = 1] = requireRank(kernel, 'u', u, ['B', 'L', 'E']);
  const { channels, groups, stateSize } = requireSelective(kernel, inputs, [batch, length], ['B', 'L']);
  const limits = timeLimits(kernel, options);
  const tile = chooseTile(stateSize, recording.capabilities.software);
  const chunkLength = chunkLengthOf(kernel, options.chunkLength, length, channels * tile.lanes * maximumSize(batch));
  const chunks = ceilDivSize(length, chunkLength);

  const groupChannels = channels / groups;
  const groupTiles = Math.ceil(groupChannels / tile.channels);
  const a = placeOf('a', A, 1);
  const places = { ...placeOf('u', u, 1), ...placeOf('dt', dt, 1), ...a };
  const gate = placeOf('z', z, 1);
  const state = inputs.state ?? recording.scratch('selectiveScan.state', 'f32', [batch, channels, stateSize]);
  const own = placeOf('state', state, 2);
  const { B, C, vectors, biasOffset, skipOffset } = pairUp(recording, kernel, inputs);
  const common = {
    params: {
      length,
      chunks,
      chunkLength,
      groupChannels,
      groupTiles,
      channels,
      stateSize,
      ...places,
      ...placeOf('b', B, 2),
      biasOffset,
      ...limits,
    },
    overrides: {
      WORKGROUP_SIZE: tile.workgroup,
      LANES: tile.lanes,
      CHANNELS: tile.channels,
      TILE: tile.tokens,
      HAS_BIAS: dtBias !== undefined,
      SOFTPLUS: options.dtSoftplus ?? true,
    },
    constants: { VECTORS: tile.vectors },
    workgroups: [groups * groupTiles, chunks, batch],
  } as const;

  const whole = maximumSize(chunks) === 1;
  let states = state;
  if (!whole) {
    states = recording.scratch('selectiveScan.states', 'f32', [batch, chunks, channels, stateSize]);
    const sums = recording.scratch('selectiveScan.sums', 'f32', [batch, chunks, channels]);
    recording.dispatch(selectiveScanStatesShader, { ...common, bindings: { u, dt, A, B, vectors, states, sums } });
    recording.dispatch(selectiveScanCarryShader, {
      bindings: { A, sums, states, state },
      params: { chunks, channels, stateSize, ...a, ...own },
      overrides: { HAS_STATE: inputs.state !== undefined, WORKGROUP_SIZE: CARRY_WORKGROUP },
      workgroups: [Math.ceil((channels * stateSize) / CARRY_WORKGROUP), batch],
    });
  }
  const y = recording.scratch('selectiveScan.y', 'f32', [batch, length, channels]);
  recording.dispatch(selectiveScanShader, {
    ...common,
    bindings: { u, dt, A, BC: B, vectors, z: z ?? recording.placeholder(), states, y },
    params: { ...common.params, ...gate, ...placeOf('c', C, 2), skipOffset, ...placeOf('state', states, 2) },
    overrides: {
      ...common.overrides,
      HAS_SKIP: D !== undefined,
      HAS_GATE: z !== undefined,
      HAS_STATE: !whole || inputs.state !== undefined,
      WRITES_STATE: whole,
    },
  });
  return { y, state };
}

interface Tile {
  readonly workgroup: number;
  readonly vectors: number;
  readonly lanes: number;
  readonly channels: number;
  readonly tokens: number;
}

/**
 * One vector of 4 states an invocation where N <= 16, else four: more registers, fewer partial sums. As many tokens as
 * the workgroup memory holds.
 */
function chooseTile(stateSize: number, software: boolean): Tile {
  const quads = Math.ceil(stateSize / 4);
  const vectors = quads <= 4 ? 1 : 4;
  const lanes = 2 ** Math.ceil(Math.log2(quads / vectors));
  const workgroup = software ? 32 : 128;
  const channels = workgroup / lanes;
  const bytes = 12 * channels + 32 * vectors * lanes + 4 * workgroup;
  const tokens = Math.min(16, Math.floor(WORKGROUP_BYTES / bytes / 4) * 4);
  return { workgroup, vectors, lanes, channels, tokens };
}

/** @param invocations what the whole sequence has as one chunk */
function chunkLengthOf(kernel: string, given: number | undefined, length: Size, invocations: number): number {
  const longest = maximumSize(length);
  if (given === undefined) {
    const chunks = Math.min(Math.ceil(WANTED_INVOCATIONS / invocations), Math.floor(longest / LEAST_CHUNK));
    return chunks < 2 ? longest : Math.ceil(longest / chunks / 16) * 16;
  }
  requireArgument(
    Number.isInteger(given) && given >= 1,
    `${kernel}: chunkLength ${given} is not a positive whole number.`,
    'Use a multiple of 16, or leave it out.',
  );
  return given;
}
