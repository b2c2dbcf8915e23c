import { zeros } from '../arrays.ts';
import { skipAndGate, ssdArrays, type SsdInputs, type SsdOptions, type SsdResult } from '../ssd.ts';

/** As `SsdOptions`, for one token. */
export type SsdStepOptions = Omit<SsdOptions, 'length'>;

/**
 * One token of `ssdScan`: S = exp(dt A) S + dt x B^T, y = (S C + D x) * silu(z).
 *
 * Shapes: x, z and y (B, H, P), dt (B, H), A, D and dtBias (H), B and C (B, G, N), state (B, H, P, N).
 * Source: `selective_state_update_ref` with one A, D and dt per head.
 */
export function ssdStep(inputs: SsdInputs, options: SsdStepOptions): SsdResult {
  const { batch, heads, headDim, groups, stateSize } = options;
  const arrays = ssdArrays(inputs, { ...options, length: 1 });
  const { x, dt, A, B, C, state } = arrays;
  const y = zeros(x.values.length);
  for (let bh = 0; bh < batch * heads; bh++) {
    const b = Math.floor(bh / heads);
    const h = bh % heads;
    const group = (b * groups + Math.floor((h * groups) / heads)) * stateSize; // B, C [b, g, 0]
    const decay = Math.exp(dt.at(bh) * A.at(h));
    for (let p = 0; p < headDim; p++) {
      const token = bh * headDim + p; // x, y, z [b, h, p], and the row of S
      let sum = 0;
      for (let n = 0; n < stateSize; n++) {
        const element = token * stateSize + n; // S [b, h, p, n]
        state.set(element, decay * state.at(element) + dt.at(bh) * x.at(token) * B.at(group + n));
        sum += state.at(element) * C.at(group + n);
      }
      y.set(token, skipAndGate(arrays, h, token, sum));
    }
  }
  return { y: y.values, state: state.values };
}
