import { optionalFloat64, zeros, type Numbers } from '../arrays.ts';
import { skipAndGate, ssdArrays, type SsdInputs, type SsdOptions, type SsdResult } from '../ssd.ts';

/** `SsdInputs` for one token. */
export interface SsdStepInputs extends Omit<SsdInputs, 'sequenceIds' | 'starts'> {
  /** (B): which of any number of states belongs to a sequence; outside them all, y is 0 */
  readonly slots?: Numbers | undefined;
}

/** As `SsdOptions`, for one token. */
export type SsdStepOptions = Omit<SsdOptions, 'length'>;

/**
 * One token of `ssdScan`: S = exp(dt A) S + dt x B^T, y = (S C + D x) * silu(z).
 *
 * Shapes: x, z and y (B, H, P), dt (B, H), A and dtBias (H), D (H) or (H, P), B and C (B, G, N), state (B, H, P, N).
 * Source: `selective_state_update_ref` with one A, D and dt per head.
 */
export function ssdStep(inputs: SsdStepInputs, options: SsdStepOptions): SsdResult {
  const { batch, heads, headDim, groups, stateSize } = options;
  const states = inputs.slots && inputs.state ? inputs.state.length / (heads * headDim * stateSize) : batch;
  const slots = optionalFloat64('slots', inputs.slots, batch);
  const arrays = ssdArrays(inputs, { ...options, length: 1 }, states);
  const { x, dt, A, B, C, state } = arrays;
  const y = zeros(x.values.length);
  for (let bh = 0; bh < batch * heads; bh++) {
    const b = Math.floor(bh / heads);
    const h = bh % heads;
    const slot = slots?.at(b) ?? b;
    if (slot < 0 || slot >= states) continue;
    const group = (b * groups + Math.floor((h * groups) / heads)) * stateSize; // B, C [b, g, 0]
    const decay = Math.exp(dt.at(bh) * A.at(h));
    for (let p = 0; p < headDim; p++) {
      const token = bh * headDim + p; // x, y, z [b, h, p]
      let sum = 0;
      for (let n = 0; n < stateSize; n++) {
        const element = ((slot * heads + h) * headDim + p) * stateSize + n; // S [slot, h, p, n]
        state.set(element, decay * state.at(element) + dt.at(bh) * x.at(token) * B.at(group + n));
        sum += state.at(element) * C.at(group + n);
      }
      y.set(token, skipAndGate(arrays, token, sum));
    }
  }
  return { y: y.values, state: state.values };
}
