import { zeros } from '../arrays.ts';
import { scanSequences, skipAndGate, ssdArrays, type SsdInputs, type SsdOptions, type SsdResult } from '../ssd.ts';

/**
 * The state-space recurrence of Mamba-2, token after token: with g = floor(h G / H) and dt the biased, softplussed,
 * clamped step,
 *
 *     S[b, h, p, n] = exp(dt A[h]) S[b, h, p, n] + dt x[b, l, h, p] B[b, l, g, n]
 *     y[b, l, h, p] = (sum_n S[b, h, p, n] C[b, l, g, n] + D[h, p] x[b, l, h, p]) * silu(z[b, l, h, p])
 *
 * Source: *Transformers are SSMs* (arXiv 2405.21060), the recurrent form of SSD; `selective_state_update_ref`.
 */
export function ssdScan(inputs: SsdInputs, options: SsdOptions): SsdResult {
  if (inputs.sequenceIds !== undefined || inputs.starts !== undefined) return scanSequences(inputs, options, ssdScan);
  const { batch, length, heads, headDim, groups, stateSize } = options;
  const arrays = ssdArrays(inputs, options);
  const { x, dt, A, B, C, state } = arrays;
  const y = zeros(x.values.length);
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      for (let h = 0; h < heads; h++) {
        const group = ((b * length + l) * groups + Math.floor((h * groups) / heads)) * stateSize; // B, C [b, l, g, 0]
        const step = dt.at((b * length + l) * heads + h);
        const decay = Math.exp(step * A.at(h));
        for (let p = 0; p < headDim; p++) {
          const token = ((b * length + l) * heads + h) * headDim + p; // x, y, z [b, l, h, p]
          const row = ((b * heads + h) * headDim + p) * stateSize; // S [b, h, p, 0]
          let sum = 0;
          for (let n = 0; n < stateSize; n++) {
            const next = decay * state.at(row + n) + step * x.at(token) * B.at(group + n);
            state.set(row + n, next);
            sum += next * C.at(group + n);
          }
          y.set(token, skipAndGate(arrays, token, sum));
        }
      }
    }
  }
  return { y: y.values, state: state.values };
}
