// Longer than most host halves: three passes with many tensors.
import { mamba3ScanShader } from '../generated/ssm/mamba3_scan.ts';
import { mamba3ScanAnglesShader } from '../generated/ssm/mamba3_scan_angles.ts';
import { mamba3ScanRotateShader } from '../generated/ssm/mamba3_scan_rotate.ts';
import { requireArgument, requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { addSize, ceilDivSize, flatGrid, maximumSize, productSize } from '../core/size.ts';
import type { Mamba3States, Mamba3Tensors } from './mamba3.ts';
import { requireMamba3, wholeOffset } from './mamba3.ts';
import { placeOf } from './selective.ts';

/** `Mamba3Tensors` with `...` = (B, L), and all four states or none: then they begin at zeros. */
export type Mamba3ScanInputs = Mamba3Tensors & Partial<Mamba3States>;

/** `y` with the states after the last token: those of the inputs where they were given. */
export interface Mamba3ScanResult extends Mamba3States {
  /** (B, L, H, P) f32, contiguous */
  readonly y: TensorRef;
}

const ANGLES_OF_WORKGROUP = 32;
const ROTATE_WORKGROUP = 128;
const MOST_LANES = 32;
/** Bytes of workgroup memory that every device has. */
const WORKGROUP_BYTES = 16_384;
/** Workgroups that keep a large GPU busy. */
const ENOUGH_WORKGROUPS = 256;

/**
 * Mamba-3 (one input, one output a head) over a whole sequence: with t = the angle so far, w = sigmoid(trap) and keys and
 * queries turned by t, `S = exp(adt) (S + (1 - w) dt v' k'^T) + w dt v k^T` and `y = (S q + D v) silu(z)`, where v' and k'
 * are those of the token before.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if only some states are given, H is not a multiple
 *   of Hqk, N is odd, or N, P or S is too large
 *
 * Cost: 5 L H P N flops; bytes of the inputs and y, and 8 L H N for rotated queries and keys, which are read once for
 * every few rows of the state. Three dispatches. Source: state-spaces/mamba, `mamba3_siso`.
 */
export function mamba3Scan(recording: Recording, inputs: Mamba3ScanInputs): Mamba3ScanResult {
  const kernel = 'mamba3Scan';
  const { q, k, v, dt, adt, trap, angles, qBias, kBias, D, z } = inputs;
  const [batch = 1, length = 1] = requireRank(kernel, 'v', v, ['B', 'L', 'H', 'P']);
  const { heads, headDim, stateSize, group, rotary } = requireMamba3(kernel, inputs, [batch, length], ['B', 'L']);
  const given = [inputs.angleState, inputs.state, inputs.kState, inputs.vState].filter((one) => one !== undefined);
  requireArgument(
    given.length === 0 || given.length === 4,
    `${kernel}: ${given.length} of the four states are given.`,
    'Give angleState, state, kState and vState together, or none of them.',
  );
  const hasState = given.length === 4;
  const scratch = (name: string, ...shape: number[]): TensorRef =>
    recording.scratch(`mamba3Scan.${name}`, 'f32', [batch, heads, ...shape]);
  const states: Mamba3States = {
    angleState: inputs.angleState ?? scratch('angleState', rotary),
    state: inputs.state ?? scratch('state', headDim, stateSize),
    kState: inputs.kState ?? scratch('kState', stateSize),
    vState: inputs.vState ?? scratch('vState', headDim),
  };
  const none = recording.placeholder();
  const tile = chooseTile(stateSize, maximumSize(batch) * heads * headDim, recording.capabilities.software);
  const padded = 4 * tile.vectors * tile.lanes;
  const rows = addSize(length, 1);
  const turns = recording.scratch('mamba3Scan.turns', 'u32', [batch, length, heads, rotary]);
  const coefficients = recording.scratch('mamba3Scan.coefficients', 'f32', [batch, rows, heads, 4]);
  const qk = recording.scratch('mamba3Scan.qk', 'f32', [batch, rows, heads, 2, padded]);
  const y = recording.scratch('mamba3Scan.y', 'f32', [batch, length, heads, headDim]);
  const sizes = { length, heads };

  recording.dispatch(mamba3ScanAnglesShader, {
    bindings: { angles, dt, adt, trap, D: D ?? none, angleState: states.angleState, turns, coefficients },
    params: {
      ...sizes,
      rotary,
      ...placeOf('angles', angles, 2),
      ...placeOf('dt', dt, 1),
      ...placeOf('adt', adt, 1),
      ...placeOf('trap', trap, 1),
      ...placeOf('state', states.angleState, 2),
      skipOffset: D?.offset ?? 0,
    },
    overrides: {
      WORKGROUP_SIZE: recording.capabilities.software ? 64 : 256,
      HAS_STATE: hasState,
      HAS_SKIP: D !== undefined,
    },
    workgroups: [Math.ceil(rotary / ANGLES_OF_WORKGROUP), heads, batch],
  });
  const most = recording.capabilities.software ? 4 : MOST_LANES;
  const lanes = Math.min(most, padded / 2);
  recording.dispatch(mamba3ScanRotateShader, {
    bindings: { q, k, qBias, kBias, turns, kState: hasState ? states.kState : none, coefficients, qk },
    params: {
      ...sizes,
      batch,
      group,
      pairs: stateSize / 2,
      paddedPairs: padded / 2,
      rotary,
      ...placeOf('q', q, 2),
      ...placeOf('k', k, 2),
      qBiasOffset: wholeOffset('qBias', qBias),
      kBiasOffset: wholeOffset('kBias', kBias),
      ...placeOf('state', states.kState, 2),
    },
    overrides: { LANES: lanes, HAS_STATE: hasState },
    workgroups: flatGrid(ceilDivSize(productSize([batch, rows, heads]), ROTATE_WORKGROUP / lanes)),
  });
  recording.dispatch(mamba3ScanShader, {
    bindings: {
      qk,
      coefficients,
      v,
      z: z ?? none,
      state: states.state,
      kState: states.kState,
      vState: states.vState,
      y,
    },
    params: {
      ...sizes,
      headDim,
      stateSize,
      ...placeOf('v', v, 2),
      ...placeOf('z', z, 2),
      ...placeOf('state', states.state, 3),
      ...placeOf('k', states.kState, 2),
      ...placeOf('vState', states.vState, 2),
    },
    overrides: {
      WORKGROUP_SIZE: tile.workgroup,
      LANES: tile.lanes,
      ROWS: tile.rows,
      TILE: tile.tokens,
      HAS_STATE: hasState,
      HAS_GATE: z !== undefined,
    },
    constants: { VECTORS: tile.vectors },
    workgroups: [Math.ceil(headDim / tile.rows), heads, batch],
  });
  return { y, ...states };
}

/**
 * One vector of 4 values an invocation where N <= 16, else four; as many tokens as the workgroup memory holds. Every
 * workgroup reads all queries and keys of its head: it is as large as leaves a GPU enough of them.
 */
function chooseTile(
  stateSize: number,
  allRows: number,
  software: boolean,
): { workgroup: number; vectors: number; lanes: number; rows: number; tokens: number } {
  const quads = Math.ceil(stateSize / 4);
  const vectors = quads <= 4 ? 1 : 4;
  const lanes = 2 ** Math.ceil(Math.log2(quads / vectors));
  const large = [256, 128].find((size) => (allRows * lanes) / size >= ENOUGH_WORKGROUPS);
  const workgroup = software ? 32 : (large ?? 64);
  const rows = workgroup / lanes;
  const bytes = 16 + 8 * rows + 32 * vectors * lanes + 4 * workgroup;
  const tokens = Math.min(16, Math.floor(WORKGROUP_BYTES / bytes / 4) * 4);
  return { workgroup, vectors, lanes, rows, tokens };
}
