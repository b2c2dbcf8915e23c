import { silu } from './activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers, type Reals } from './arrays.ts';
import { timeSteps, type TimeStepOptions } from './time_step.ts';

export interface SsdInputs {
  /** (B, L, H, P) */
  readonly x: Numbers;
  /** (B, L, H), raw */
  readonly dt: Numbers;
  /** (H), negative */
  readonly A: Numbers;
  /** (B, L, G, N); head h reads group floor(h G / H) */
  readonly B: Numbers;
  /** (B, L, G, N) */
  readonly C: Numbers;
  /** (H), the skip weight */
  readonly D?: Numbers | undefined;
  /** (B, L, H, P), the gate before its activation */
  readonly z?: Numbers | undefined;
  /** (H) */
  readonly dtBias?: Numbers | undefined;
  /** (B, H, P, N), the state to start from; zeros when left out */
  readonly state?: Numbers | undefined;
}

export interface SsdOptions extends TimeStepOptions {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

export interface SsdResult {
  /** (B, L, H, P) */
  readonly y: Float64Array;
  /** (B, H, P, N), after the last token */
  readonly state: Float64Array;
}

/** `SsdInputs` as checked float64 arrays: `dt` is the step of the recurrence, `state` a copy that may be overwritten. */
export interface SsdArrays {
  readonly x: Reals;
  readonly dt: Reals;
  readonly A: Reals;
  readonly B: Reals;
  readonly C: Reals;
  readonly D: Reals | undefined;
  readonly z: Reals | undefined;
  readonly state: Reals;
}

/** Checks and copies the inputs of `ssdScan`, `ssdChunkScan` and `ssdStep`. */
export function ssdArrays(inputs: SsdInputs, options: SsdOptions): SsdArrays {
  const { batch, length, heads, headDim, groups, stateSize } = options;
  expectDivisible('heads', heads, 'groups', groups);
  const dt = float64('dt', inputs.dt, batch, length, heads);
  return {
    x: float64('x', inputs.x, batch, length, heads, headDim),
    dt: timeSteps(dt, optionalFloat64('dtBias', inputs.dtBias, heads), options),
    A: float64('A', inputs.A, heads),
    B: float64('B', inputs.B, batch, length, groups, stateSize),
    C: float64('C', inputs.C, batch, length, groups, stateSize),
    D: optionalFloat64('D', inputs.D, heads),
    z: optionalFloat64('z', inputs.z, batch, length, heads, headDim),
    state:
      optionalFloat64('state', inputs.state, batch, heads, headDim, stateSize) ??
      zeros(batch * heads * headDim * stateSize),
  };
}

/** (scanned + D[h] * x) * silu(z) for element `index` of x, which belongs to head h. */
export function skipAndGate({ x, D, z }: SsdArrays, h: number, index: number, scanned: number): number {
  const skipped = D === undefined ? scanned : scanned + D.at(h) * x.at(index);
  return z === undefined ? skipped : skipped * silu(z.at(index));
}
