import { sigmoid, softplus } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers, type Reals } from '../arrays.ts';

export interface GatedDeltaRuleInputs {
  /** (B, L, Hk, K); value head h reads key head floor(h Hk / Hv) */
  readonly q: Numbers;
  /** (B, L, Hk, K) */
  readonly k: Numbers;
  /** (B, L, Hv, V) */
  readonly v: Numbers;
  /** (B, L, Hv), the log decay; with A, raw: then it is A softplus(g + dtBias) */
  readonly g: Numbers;
  /** (B, L, Hv) */
  readonly beta: Numbers;
  /** (Hv), negative */
  readonly A?: Numbers | undefined;
  /** (Hv) */
  readonly dtBias?: Numbers | undefined;
  /** (B, Hv, K, V), the state to start from; zeros when left out */
  readonly state?: Numbers | undefined;
}

export interface GatedDeltaRuleOptions {
  readonly batch: number;
  readonly length: number;
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Take sigmoid(beta); off by default. */
  readonly betaSigmoid?: boolean | undefined;
  /** Multiplies beta, after the sigmoid; 1 by default. */
  readonly betaFactor?: number | undefined;
  /** x / sqrt(sum x^2 + eps) for rows of q and k; off by default. */
  readonly l2Norm?: boolean | undefined;
  /** 1e-6 by default. */
  readonly eps?: number | undefined;
  /** Multiplies q; 1 / sqrt(K) by default. */
  readonly scale?: number | undefined;
}

export interface GatedDeltaRuleResult {
  /** (B, L, Hv, V) */
  readonly y: Float64Array;
  /** (B, Hv, K, V), after the last token */
  readonly state: Float64Array;
}

/** Rows of `width` elements times `scale`, of unit length first where `eps` is given. */
function scaledRows(rows: Reals, width: number, scale: number, eps: number | undefined): Reals {
  const result = zeros(rows.values.length);
  for (let start = 0; start < rows.values.length; start += width) {
    const row = rows.values.subarray(start, start + width);
    const squares = row.reduce((sum, x) => sum + x * x, 0);
    const factor = eps === undefined ? scale : scale / Math.sqrt(squares + eps);
    for (const [i, x] of row.entries()) result.set(start + i, factor * x);
  }
  return result;
}

/**
 * The gated delta rule, token after token, for each value head:
 *
 *     S = exp(g) S,   S = S + beta k (v - S^T k)^T,   y = S^T q
 *
 * Source: *Gated Delta Networks* (arXiv 2412.06464), equation 10; `torch_recurrent_gated_delta_rule` of transformers.
 */
export function gatedDeltaRule(inputs: GatedDeltaRuleInputs, options: GatedDeltaRuleOptions): GatedDeltaRuleResult {
  const { batch, length, keyHeads, valueHeads, keyDim, valueDim } = options;
  expectDivisible('valueHeads', valueHeads, 'keyHeads', keyHeads);
  const eps = options.l2Norm === true ? (options.eps ?? 1e-6) : undefined;
  const keys = (name: string, rows: Numbers, scale: number): Reals =>
    scaledRows(float64(name, rows, batch, length, keyHeads, keyDim), keyDim, scale, eps);
  const q = keys('q', inputs.q, options.scale ?? 1 / Math.sqrt(keyDim));
  const k = keys('k', inputs.k, 1);
  const v = float64('v', inputs.v, batch, length, valueHeads, valueDim);
  const g = float64('g', inputs.g, batch, length, valueHeads);
  const beta = float64('beta', inputs.beta, batch, length, valueHeads);
  const A = optionalFloat64('A', inputs.A, valueHeads);
  const dtBias = optionalFloat64('dtBias', inputs.dtBias, valueHeads);
  const stateElements = batch * valueHeads * keyDim * valueDim;
  const state = optionalFloat64('state', inputs.state, batch, valueHeads, keyDim, valueDim) ?? zeros(stateElements);
  const y = zeros(v.values.length);
  for (let row = 0; row < batch * length * valueHeads; row++) {
    const h = row % valueHeads;
    const token = Math.floor(row / valueHeads); // b L + l
    const key = (token * keyHeads + Math.floor((h * keyHeads) / valueHeads)) * keyDim; // q, k [b, l, h', 0]
    const base = (Math.floor(token / length) * valueHeads + h) * keyDim * valueDim; // S [b, h, 0, 0]
    const raw = g.at(row);
    const decay = Math.exp(A === undefined ? raw : A.at(h) * softplus(raw + (dtBias?.at(h) ?? 0)));
    const gate = (options.betaSigmoid === true ? sigmoid(beta.at(row)) : beta.at(row)) * (options.betaFactor ?? 1);
    for (let j = 0; j < valueDim; j++) {
      let found = 0;
      for (let i = 0; i < keyDim; i++) found += decay * state.at(base + i * valueDim + j) * k.at(key + i);
      const written = gate * (v.at(row * valueDim + j) - found);
      let sum = 0;
      for (let i = 0; i < keyDim; i++) {
        const next = decay * state.at(base + i * valueDim + j) + k.at(key + i) * written;
        state.set(base + i * valueDim + j, next);
        sum += next * q.at(key + i);
      }
      y.set(row * valueDim + j, sum);
    }
  }
  return { y: y.values, state: state.values };
}
