import { describe, expect, it } from 'vitest';
import { mamba3Scan, mamba3Step, ssdScan, type Mamba3Inputs } from '@mambalab/kernels/reference';
import { difference, joinTokens, sliceTokens, uniform } from './support.ts';

const batch = 2;
const length = 9;
const sizes = { batch, heads: 4, sharedHeads: 2, headDim: 3, stateSize: 6, rotary: 2 } as const;
const draw = uniform(31);
const rows = batch * length;
const arrays = {
  q: draw(rows * 12),
  k: draw(rows * 12),
  v: draw(rows * 12),
  dt: draw(rows * 4, 0.01, 1),
  adt: draw(rows * 4, -2, 0),
  trap: draw(rows * 4, -2, 2),
  angles: draw(rows * 8, -2, 2),
  z: draw(rows * 12),
};
const weights = { qBias: draw(24), kBias: draw(24), D: draw(4) };
const states = {
  angleState: draw(batch * 8, 0, 6.28),
  state: draw(batch * 72),
  kState: draw(batch * 24),
  vState: draw(batch * 12),
};

/** Tokens start .. end - 1 of all inputs along the sequence. */
const part = (start: number, end: number): Mamba3Inputs => ({
  ...(Object.fromEntries(
    Object.entries(arrays).map(([name, value]) => [name, sliceTokens(value, batch, length, start, end)]),
  ) as typeof arrays),
  ...weights,
});

describe('mamba3Scan', () => {
  const { y: whole, ...last } = mamba3Scan({ ...arrays, ...weights, ...states }, { ...sizes, length });

  it.each([0, 1, 4, 8])('two calls, cut at %i, are one call', (cut) => {
    const { y: first, ...held } = mamba3Scan({ ...part(0, cut), ...states }, { ...sizes, length: cut });
    const second = mamba3Scan({ ...part(cut, length), ...held }, { ...sizes, length: length - cut });
    expect(difference({ ...second, y: joinTokens([first, second.y], batch) }, { ...last, y: whole })).toBeUndefined();
  });

  it('steps are the whole', () => {
    const outputs: Float64Array[] = [];
    let held = states;
    for (let l = 0; l < length; l++) {
      const { y, ...next } = mamba3Step({ ...part(l, l + 1), ...held }, sizes) as { y: Float64Array } & typeof states;
      outputs.push(y);
      held = next;
    }
    expect(difference({ ...held, y: joinTokens(outputs, batch) }, { ...last, y: whole })).toBeUndefined();
  });

  // Without angles and with the whole step at its later end, it is Mamba-2 with B = k, C = q and x = v.
  it('is ssdScan where nothing turns and trap is large', () => {
    const still = { ...arrays, angles: new Float64Array(rows * 8), trap: new Float64Array(rows * 4).fill(60) };
    const dt = arrays.dt.map((_, i) => arrays.dt[i % 4] ?? NaN);
    const A = Float64Array.of(-0.3, -1, -2, -5);
    const adt = dt.map((step, i) => step * (A[i % 4] ?? NaN));
    const none = { qBias: new Float64Array(24), kBias: new Float64Array(24), D: weights.D };
    const given = { ...still, dt, adt, ...none, state: states.state };
    const { y, state } = mamba3Scan(given, { ...sizes, length });
    const { v: x, k: B, q: C, z } = arrays;
    const options = { batch, length, heads: 4, headDim: 3, groups: 2, stateSize: 6 };
    const expected = ssdScan({ x, dt, A, B, C, z, D: weights.D, state: states.state }, options);
    expect(difference({ y, state }, expected)).toBeUndefined();
  });
});
