import { silu } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';
import { timeSteps, type TimeStepOptions } from '../time_step.ts';

export interface SelectiveScanInputs {
  /** (B, L, E) */
  readonly u: Numbers;
  /** (B, L, E), raw */
  readonly dt: Numbers;
  /** (E, N), negative */
  readonly A: Numbers;
  /** (B, L, G, N); channel e reads group floor(e G / E) */
  readonly B: Numbers;
  /** (B, L, G, N) */
  readonly C: Numbers;
  /** (E), the skip weight */
  readonly D?: Numbers | undefined;
  /** (B, L, E), the gate before its activation */
  readonly z?: Numbers | undefined;
  /** (E) */
  readonly dtBias?: Numbers | undefined;
  /** (B, E, N), the state to start from; zeros when left out */
  readonly state?: Numbers | undefined;
}

export interface SelectiveScanOptions extends TimeStepOptions {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  /** 1 by default. */
  readonly groups?: number | undefined;
  readonly stateSize: number;
}

export interface SelectiveScanResult {
  /** (B, L, E) */
  readonly y: Float64Array;
  /** (B, E, N), after the last token */
  readonly state: Float64Array;
}

/**
 * The selective scan of Mamba: with g = floor(e G / E) and dt the biased, softplussed step,
 *
 *     h[b, e, n] = exp(dt A[e, n]) h[b, e, n] + dt B[b, l, g, n] u[b, l, e]
 *     y[b, l, e] = (sum_n C[b, l, g, n] h[b, e, n] + D[e] u[b, l, e]) * silu(z[b, l, e])
 *
 * Source: *Mamba* (arXiv 2312.00752), algorithm 2; `selective_scan_ref`.
 */
export function selectiveScan(inputs: SelectiveScanInputs, options: SelectiveScanOptions): SelectiveScanResult {
  const { batch, length, channels, groups = 1, stateSize } = options;
  expectDivisible('channels', channels, 'groups', groups);
  const u = float64('u', inputs.u, batch, length, channels);
  const dtBias = optionalFloat64('dtBias', inputs.dtBias, channels);
  const dt = timeSteps(float64('dt', inputs.dt, batch, length, channels), dtBias, options);
  const A = float64('A', inputs.A, channels, stateSize);
  const B = float64('B', inputs.B, batch, length, groups, stateSize);
  const C = float64('C', inputs.C, batch, length, groups, stateSize);
  const D = optionalFloat64('D', inputs.D, channels);
  const z = optionalFloat64('z', inputs.z, batch, length, channels);
  const state = float64(
    'state',
    inputs.state ?? zeros(batch * channels * stateSize).values,
    batch,
    channels,
    stateSize,
  );
  const y = zeros(u.values.length);
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      for (let e = 0; e < channels; e++) {
        const token = (b * length + l) * channels + e; // u, dt, y, z [b, l, e]
        const group = ((b * length + l) * groups + Math.floor((e * groups) / channels)) * stateSize; // B, C [b, l, g, 0]
        const row = (b * channels + e) * stateSize; // h [b, e, 0]
        let sum = D === undefined ? 0 : D.at(e) * u.at(token);
        for (let n = 0; n < stateSize; n++) {
          const decay = Math.exp(dt.at(token) * A.at(e * stateSize + n));
          const next = decay * state.at(row + n) + dt.at(token) * B.at(group + n) * u.at(token);
          state.set(row + n, next);
          sum += next * C.at(group + n);
        }
        y.set(token, z === undefined ? sum : sum * silu(z.at(token)));
      }
    }
  }
  return { y: y.values, state: state.values };
}
