import type { Numbers } from '../arrays.ts';
import { causalConv1dStep } from '../conv/causal_conv1d_step.ts';
import { matvec } from '../linear/matvec.ts';
import { gatedRmsNorm } from '../norm/gated_rms_norm.ts';
import { rmsNorm } from '../norm/rms_norm.ts';
import type { TimeStepOptions } from '../time_step.ts';
import { ssdStep } from './ssd_step.ts';

export interface Mamba2DecodeStepInputs {
  /** (B, D) */
  readonly x: Numbers;
  /** (2 E + 2 G N + H, D), E = H P: rows for z, x, B, C and dt */
  readonly inWeight: Numbers;
  /** (2 E + 2 G N + H) */
  readonly inBias?: Numbers | undefined;
  /** (D), the norm of x; left out for an x that is normalised */
  readonly normWeight?: Numbers | undefined;
  /** (E + 2 G N, K) */
  readonly convWeight: Numbers;
  /** (E + 2 G N) */
  readonly convBias?: Numbers | undefined;
  /** (B, K - 1, E + 2 G N) */
  readonly convState: Numbers;
  /** (H), negative */
  readonly A: Numbers;
  /** (H) */
  readonly dtBias?: Numbers | undefined;
  /** (H) */
  readonly D?: Numbers | undefined;
  /** (B, H, P, N) */
  readonly state: Numbers;
  /** (E) */
  readonly gateNorm: Numbers;
  /** (D, E) */
  readonly outWeight: Numbers;
  /** (D) */
  readonly outBias?: Numbers | undefined;
  /** (B, D) */
  readonly residual?: Numbers | undefined;
}

export interface Mamba2DecodeStepOptions extends Omit<TimeStepOptions, 'dtSoftplus'> {
  readonly batch: number;
  /** D */
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
  /** K */
  readonly taps: number;
  readonly normGroups?: number | undefined;
  readonly normEps?: number | undefined;
  readonly gateEps?: number | undefined;
}

export interface Mamba2DecodeStepResult {
  /** (B, D) */
  readonly y: Float64Array;
  readonly convState: Float64Array;
  readonly state: Float64Array;
}

/** One token through a Mamba-2 layer, of the references of its parts. Source: `Mamba2.step` of state-spaces/mamba. */
export function mamba2DecodeStep(
  inputs: Mamba2DecodeStepInputs,
  options: Mamba2DecodeStepOptions,
): Mamba2DecodeStepResult {
  const { batch, hidden, heads, headDim, groups, stateSize, taps, dtLimits, normEps = 1e-5, gateEps = 1e-5 } = options;
  const inner = heads * headDim;
  const shared = groups * stateSize;
  const channels = inner + 2 * shared;
  const outputs = inner + channels + heads;
  const normalised =
    inputs.normWeight === undefined
      ? inputs.x
      : rmsNorm({ x: inputs.x, weight: inputs.normWeight }, { rows: batch, width: hidden, eps: normEps });
  const projected = matvec(
    { x: normalised, weight: inputs.inWeight, bias: inputs.inBias },
    { rows: batch, inner: hidden, outputs },
  );
  const z = part(projected, outputs, 0, inner);
  const convolved = causalConv1dStep(
    {
      x: part(projected, outputs, inner, channels),
      weight: inputs.convWeight,
      bias: inputs.convBias,
      state: inputs.convState,
    },
    { batch, channels, width: taps, activation: 'silu' },
  );
  const { y: u, state } = ssdStep(
    {
      x: part(convolved.y, channels, 0, inner),
      B: part(convolved.y, channels, inner, shared),
      C: part(convolved.y, channels, inner + shared, shared),
      dt: part(projected, outputs, inner + channels, heads),
      A: inputs.A,
      dtBias: inputs.dtBias,
      D: inputs.D,
      state: inputs.state,
    },
    { batch, heads, headDim, groups, stateSize, dtSoftplus: true, dtLimits },
  );
  const gated = gatedRmsNorm(
    { x: u, z, weight: inputs.gateNorm },
    { rows: batch, width: inner, groups: options.normGroups, eps: gateEps },
  );
  const y = matvec(
    { x: gated, weight: inputs.outWeight, bias: inputs.outBias, residual: inputs.residual },
    { rows: batch, inner, outputs: hidden },
  );
  return { y, convState: convolved.state, state };
}

/** Columns of an array of rows of `width` values. */
function part(rows: Float64Array, width: number, from: number, count: number): Float64Array {
  return Float64Array.from(
    { length: (rows.length / width) * count },
    (_, i) => rows[Math.floor(i / count) * width + from + (i % count)] ?? NaN,
  );
}
