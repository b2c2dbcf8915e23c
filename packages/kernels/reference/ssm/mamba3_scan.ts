// Longer than most references: the recurrence has fifteen inputs.
import { sigmoid, silu } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers, type Reals } from '../arrays.ts';

export interface Mamba3Inputs {
  /** (B, L, Hqk, N); head h reads floor(h Hqk / H) */
  readonly q: Numbers;
  /** (B, L, Hqk, N) */
  readonly k: Numbers;
  /** (B, L, H, P) */
  readonly v: Numbers;
  /** (B, L, H), the time step itself */
  readonly dt: Numbers;
  /** (B, L, H), A dt */
  readonly adt: Numbers;
  /** (B, L, H), before its sigmoid */
  readonly trap: Numbers;
  /** (B, L, H, S), before tanh */
  readonly angles: Numbers;
  /** (H, N) */
  readonly qBias: Numbers;
  /** (H, N) */
  readonly kBias: Numbers;
  /** (H), the skip weight */
  readonly D?: Numbers | undefined;
  /** (B, L, H, P), the gate before its activation */
  readonly z?: Numbers | undefined;
  /** (B, H, S), (B, H, P, N), (B, H, N) and (B, H, P): what to start from; zeros when left out */
  readonly angleState?: Numbers | undefined;
  readonly state?: Numbers | undefined;
  readonly kState?: Numbers | undefined;
  readonly vState?: Numbers | undefined;
}

export interface Mamba3Options {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  /** Hqk; `heads` by default. */
  readonly sharedHeads?: number | undefined;
  readonly headDim: number;
  readonly stateSize: number;
  /** S, pairs of a key that turn */
  readonly rotary: number;
}

export interface Mamba3Result {
  /** (B, L, H, P) */
  readonly y: Float64Array;
  /** After the last token; angles from 0 to 2 pi */
  readonly angleState: Float64Array;
  readonly state: Float64Array;
  readonly kState: Float64Array;
  readonly vState: Float64Array;
}

/**
 * The recurrence of Mamba-3 with one input and output a head. For every token, with w = sigmoid(trap):
 *
 *     t = (t + pi tanh(angles) dt) mod 2 pi;  q' = turn(q + qBias, t);  k' = turn(k + kBias, t)
 *     S = exp(adt) (S + (1 - w) dt v_last k_last^T) + w dt v k'^T
 *     y = (S q' + D v) silu(z);  k_last = k';  v_last = v
 *
 * `turn` rotates the pairs (2 i, 2 i + 1), i < S, by t[i]. Source: `mamba3_siso` of state-spaces/mamba.
 */
export function mamba3Scan(inputs: Mamba3Inputs, options: Mamba3Options): Mamba3Result {
  const { batch, length, heads, sharedHeads = heads, headDim, stateSize, rotary } = options;
  expectDivisible('heads', heads, 'sharedHeads', sharedHeads);
  const q = float64('q', inputs.q, batch, length, sharedHeads, stateSize);
  const k = float64('k', inputs.k, batch, length, sharedHeads, stateSize);
  const v = float64('v', inputs.v, batch, length, heads, headDim);
  const dt = float64('dt', inputs.dt, batch, length, heads);
  const adt = float64('adt', inputs.adt, batch, length, heads);
  const trap = float64('trap', inputs.trap, batch, length, heads);
  const angles = float64('angles', inputs.angles, batch, length, heads, rotary);
  const qBias = float64('qBias', inputs.qBias, heads, stateSize);
  const kBias = float64('kBias', inputs.kBias, heads, stateSize);
  const D = optionalFloat64('D', inputs.D, heads);
  const z = optionalFloat64('z', inputs.z, batch, length, heads, headDim);
  const held = (name: string, array: Numbers | undefined, ...shape: number[]): Reals =>
    float64(
      name,
      array ?? zeros(batch * heads * shape.reduce((all, one) => all * one, 1)).values,
      batch,
      heads,
      ...shape,
    );
  const angleState = held('angleState', inputs.angleState, rotary);
  const state = held('state', inputs.state, headDim, stateSize);
  const kState = held('kState', inputs.kState, stateSize);
  const vState = held('vState', inputs.vState, headDim);
  const y = zeros(v.values.length);
  for (let row = 0; row < batch * length; row++) {
    for (let h = 0; h < heads; h++) {
      const b = Math.floor(row / length);
      const own = b * heads + h; // states [b, h]
      const token = row * heads + h; // dt, adt, trap [b, l, h]
      const source = (row * sharedHeads + Math.floor((h * sharedHeads) / heads)) * stateSize; // q, k [b, l, hqk, 0]
      const query = Float64Array.from({ length: stateSize }, (_, n) => q.at(source + n) + qBias.at(h * stateSize + n));
      const key = Float64Array.from({ length: stateSize }, (_, n) => k.at(source + n) + kBias.at(h * stateSize + n));
      for (let s = 0; s < rotary; s++) {
        const moved =
          angleState.at(own * rotary + s) + Math.PI * Math.tanh(angles.at(token * rotary + s)) * dt.at(token);
        const angle = moved - 2 * Math.PI * Math.floor(moved / (2 * Math.PI));
        angleState.set(own * rotary + s, angle);
        turn(query, 2 * s, angle);
        turn(key, 2 * s, angle);
      }
      const decay = Math.exp(adt.at(token));
      const early = sigmoid(trap.at(token)) * dt.at(token);
      const late = sigmoid(-trap.at(token)) * dt.at(token) * decay;
      for (let p = 0; p < headDim; p++) {
        const value = v.at(token * headDim + p);
        let sum = D === undefined ? 0 : D.at(h) * value;
        for (let n = 0; n < stateSize; n++) {
          const element = (own * headDim + p) * stateSize + n; // S [b, h, p, n]
          const before = late * vState.at(own * headDim + p) * kState.at(own * stateSize + n);
          state.set(element, decay * state.at(element) + before + early * value * (key[n] ?? NaN));
          sum += state.at(element) * (query[n] ?? NaN);
        }
        y.set(token * headDim + p, z === undefined ? sum : sum * silu(z.at(token * headDim + p)));
        vState.set(own * headDim + p, value);
      }
      key.forEach((value, n) => kState.set(own * stateSize + n, value));
    }
  }
  return {
    y: y.values,
    angleState: angleState.values,
    state: state.values,
    kState: kState.values,
    vState: vState.values,
  };
}

/** Rotates elements `at` and `at + 1` by an angle. */
function turn(pair: Float64Array, at: number, angle: number): void {
  const [a = NaN, b = NaN] = pair.subarray(at, at + 2);
  pair[at] = a * Math.cos(angle) - b * Math.sin(angle);
  pair[at + 1] = a * Math.sin(angle) + b * Math.cos(angle);
}
