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
  /** (H) or (H, P), the skip weight */
  readonly D?: Numbers | undefined;
  /** (B, L, H, P), the gate before its activation */
  readonly z?: Numbers | undefined;
  /** (H) */
  readonly dtBias?: Numbers | undefined;
  /** (B, H, P, N), the state to start from; zeros when left out. (S, H, P, N) with `starts` */
  readonly state?: Numbers | undefined;
  /** (B, L): where it changes another sequence begins, at zeros; below zero, the token belongs to none and y is 0 */
  readonly sequenceIds?: Numbers | undefined;
  /** (S + 1), for B = 1: the first token of each of S sequences with states of their own, and the end of the last */
  readonly starts?: Numbers | undefined;
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
  /** (B, H, P, N) or (S, H, P, N), after the last token */
  readonly state: Float64Array;
}

/**
 * `SsdInputs` as checked float64 arrays: `dt` is the step of the recurrence, `D` one of every element, `state` a copy that
 * may be overwritten.
 */
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

/**
 * Checks and copies the inputs of `ssdScan`, `ssdChunkScan` and `ssdStep`.
 *
 * @param states number of states, where it is not the batch
 */
export function ssdArrays(inputs: SsdInputs, options: SsdOptions, states: number = options.batch): SsdArrays {
  const { batch, length, heads, headDim, groups, stateSize } = options;
  expectDivisible('heads', heads, 'groups', groups);
  const dt = float64('dt', inputs.dt, batch, length, heads);
  return {
    x: float64('x', inputs.x, batch, length, heads, headDim),
    dt: timeSteps(dt, optionalFloat64('dtBias', inputs.dtBias, heads), options),
    A: float64('A', inputs.A, heads),
    B: float64('B', inputs.B, batch, length, groups, stateSize),
    C: float64('C', inputs.C, batch, length, groups, stateSize),
    D: inputs.D && skipWeights(inputs.D, heads, headDim),
    z: optionalFloat64('z', inputs.z, batch, length, heads, headDim),
    state:
      optionalFloat64('state', inputs.state, states, heads, headDim, stateSize) ??
      zeros(states * heads * headDim * stateSize),
  };
}

/** D (H) or (H, P) as (H, P). */
function skipWeights(D: Numbers, heads: number, headDim: number): Reals {
  if (D.length !== heads) return float64('D', D, heads, headDim);
  const perHead = float64('D', D, heads);
  return float64(
    'D',
    Array.from({ length: heads * headDim }, (_, element) => perHead.at(Math.floor(element / headDim))),
    heads,
    headDim,
  );
}

/** (scanned + D * x) * silu(z) for element `index` of x. */
export function skipAndGate({ x, D, z }: SsdArrays, index: number, scanned: number): number {
  const skipped = D === undefined ? scanned : scanned + D.at(index % D.values.length) * x.at(index);
  return z === undefined ? skipped : skipped * silu(z.at(index));
}

/** Inputs with one element or more of every token. */
const ALONG = ['x', 'dt', 'B', 'C', 'z'] as const;

/** A scan whose rows hold several sequences, by `sequenceIds` or `starts`: each as a call of its own. */
export function scanSequences<O extends SsdOptions>(
  { sequenceIds, starts, ...inputs }: SsdInputs,
  options: O,
  scan: (inputs: SsdInputs, options: O) => SsdResult,
): SsdResult {
  const { batch, length, heads, headDim, stateSize } = options;
  const ids = optionalFloat64('sequenceIds', sequenceIds, batch, length) ?? zeros(batch * length);
  const ends = starts === undefined ? Array.from({ length: batch + 1 }, (_, b) => b * length) : Array.from(starts);
  const size = heads * headDim * stateSize;
  const state =
    optionalFloat64('state', inputs.state, ends.length - 1, heads, headDim, stateSize) ??
    zeros((ends.length - 1) * size);
  const y = zeros(batch * length * heads * headDim);
  ends.slice(0, -1).forEach((begin, s) => {
    const end = ends[s + 1] ?? begin;
    let next = begin;
    for (let first = begin; first < end; first = next) {
      do next++;
      while (next < end && ids.at(next) === ids.at(first));
      if (ids.at(first) < 0) continue;
      const part = ALONG.map((name) => {
        const array = inputs[name];
        const width = (array?.length ?? 0) / (batch * length);
        return [name, array && Array.from(array).slice(first * width, next * width)] as const;
      });
      // What went before counts only at the beginning of a row or of a packed sequence.
      const entering = first === begin ? state.values.slice(s * size, (s + 1) * size) : undefined;
      const own = { ...inputs, ...Object.fromEntries(part), state: entering };
      const result = scan(own, { ...options, batch: 1, length: next - first });
      y.values.set(result.y, first * heads * headDim);
      state.values.set(result.state, s * size);
    }
  });
  return { y: y.values, state: state.values };
}
