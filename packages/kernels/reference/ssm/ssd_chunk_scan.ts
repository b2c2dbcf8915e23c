import { Reals, zeros } from '../arrays.ts';
import { scanSequences, skipAndGate, ssdArrays, type SsdInputs, type SsdOptions, type SsdResult } from '../ssd.ts';

export interface SsdChunkScanOptions extends SsdOptions {
  /** Q; the last chunk may be shorter. */
  readonly chunkLength: number;
}

/**
 * segsum[i, j] = a[j + 1] + ... + a[i] for j <= i, and -Infinity above the diagonal: the log of the decay from token j
 * to token i. Each column is its own running sum, so that long chunks do not subtract two large cumulative sums.
 */
function segsum(a: Reals): Reals {
  const size = a.values.length;
  const sums = new Reals(new Float64Array(size * size).fill(-Infinity));
  for (let j = 0; j < size; j++) {
    sums.set(j * size + j, 0);
    for (let i = j + 1; i < size; i++) sums.set(i * size + j, sums.at((i - 1) * size + j) + a.at(i));
  }
  return sums;
}

/**
 * The recurrence of `ssdScan` in its chunked, matrix form. With a = dt A, X = dt x and M = exp(segsum(a)) inside a chunk:
 *
 *     Y   = (C B^T * M) X + exp(cumsum(a)) C S          S the state that enters the chunk
 *     S'  = exp(sum(a)) S + (M[last] X)^T B             S' the state that leaves it
 *
 * Shapes as `ssdScan`. Source: *Transformers are SSMs* (arXiv 2405.21060), listing 1, `ssd_minimal_discrete`.
 */
export function ssdChunkScan(inputs: SsdInputs, options: SsdChunkScanOptions): SsdResult {
  if (inputs.sequenceIds !== undefined || inputs.starts !== undefined)
    return scanSequences(inputs, options, ssdChunkScan);
  const { batch, length, heads, headDim, groups, stateSize, chunkLength } = options;
  const arrays = ssdArrays(inputs, options);
  const { x, dt, A, B, C, state } = arrays;
  const y = zeros(x.values.length);
  for (let bh = 0; bh < batch * heads; bh++) {
    const b = Math.floor(bh / heads);
    const h = bh % heads;
    const step = (l: number): number => dt.at((b * length + l) * heads + h); // dt [b, l, h]
    const token = (l: number): number => ((b * length + l) * heads + h) * headDim; // x, y, z [b, l, h, 0]
    const g = Math.floor((h * groups) / heads);
    const group = (l: number): number => ((b * length + l) * groups + g) * stateSize; // B, C [b, l, g, 0]
    for (let start = 0; start < length; start += chunkLength) {
      const size = Math.min(chunkLength, length - start);
      const a = new Reals(Float64Array.from({ length: size }, (_, i) => step(start + i) * A.at(h)));
      const decay = new Reals(segsum(a).values.map(Math.exp)); // M [i, j]
      const entering = new Reals(state.values.slice(bh * headDim * stateSize, (bh + 1) * headDim * stateSize)); // S [p, n]
      let cumulative = 0;
      for (let i = 0; i < size; i++) {
        cumulative += a.at(i);
        const fromStart = Math.exp(cumulative);
        const mixed = zeros(headDim); // Y [i, :]
        for (let p = 0; p < headDim; p++) {
          for (let n = 0; n < stateSize; n++) {
            const carried = C.at(group(start + i) + n) * entering.at(p * stateSize + n);
            mixed.add(p, fromStart * carried);
          }
        }
        for (let j = 0; j <= i; j++) {
          let product = 0; // C B^T [i, j]
          for (let n = 0; n < stateSize; n++) product += C.at(group(start + i) + n) * B.at(group(start + j) + n);
          const score = product * decay.at(i * size + j) * step(start + j);
          for (let p = 0; p < headDim; p++) mixed.add(p, score * x.at(token(start + j) + p));
        }
        for (let p = 0; p < headDim; p++) {
          const index = token(start + i) + p;
          y.set(index, skipAndGate(arrays, index, mixed.at(p)));
        }
      }
      for (let p = 0; p < headDim; p++) {
        for (let n = 0; n < stateSize; n++) {
          let next = Math.exp(cumulative) * entering.at(p * stateSize + n);
          for (let j = 0; j < size; j++) {
            const scaled = decay.at((size - 1) * size + j) * step(start + j) * x.at(token(start + j) + p);
            next += scaled * B.at(group(start + j) + n);
          }
          state.set((bh * headDim + p) * stateSize + n, next);
        }
      }
    }
  }
  return { y: y.values, state: state.values };
}
