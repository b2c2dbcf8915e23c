import { describe, expect, it } from 'vitest';
import {
  selectiveScan,
  selectiveScanStep,
  ssdChunkScan,
  ssdScan,
  ssdStep,
  type SelectiveScanInputs,
  type SsdInputs,
  type SsdOptions,
} from '@mambalab/kernels/reference';
import { difference, joinTokens, readCases, sliceTokens, uniform } from './support.ts';

const batch = 2;
const ssd = { batch, heads: 4, headDim: 3, groups: 2, stateSize: 5, dtSoftplus: true, dtLimits: [0.01, 0.4] } as const;

interface Arrays {
  readonly x: Float64Array;
  readonly dt: Float64Array;
  readonly B: Float64Array;
  readonly C: Float64Array;
  readonly z: Float64Array;
}

/** Seeded inputs of `ssdScan`: `arrays` along the sequence, `rest` not. */
function ssdInputs(length: number): { arrays: Arrays; rest: Omit<SsdInputs, keyof Arrays> & { state: Float64Array } } {
  const draw = uniform(length);
  const { heads, headDim, groups, stateSize } = ssd;
  const rows = batch * length;
  return {
    arrays: {
      x: draw(rows * heads * headDim),
      dt: draw(rows * heads, -2, 2),
      B: draw(rows * groups * stateSize),
      C: draw(rows * groups * stateSize),
      z: draw(rows * heads * headDim, -3, 3),
    },
    rest: {
      A: draw(heads, -3, -0.1),
      D: draw(heads),
      dtBias: draw(heads, -2, 0),
      state: draw(batch * heads * headDim * stateSize),
    },
  };
}

function part<A extends { [K in keyof A]: Float64Array }>(arrays: A, length: number, start: number, end: number): A {
  const entries = Object.entries<Float64Array>(arrays);
  return Object.fromEntries(entries.map(([key, value]) => [key, sliceTokens(value, batch, length, start, end)])) as A;
}

describe.each([1, 4, 16, 64])('ssdChunkScan in chunks of %i is ssdScan', (chunkLength) => {
  const lengths = new Set([1, chunkLength - 1, chunkLength, chunkLength + 1, 3 * chunkLength + 5]);
  it.each([...lengths])('%i tokens', (length) => {
    const { arrays, rest } = ssdInputs(length);
    const inputs = { ...arrays, ...rest };
    expect(
      difference(ssdChunkScan(inputs, { ...ssd, length, chunkLength }), ssdScan(inputs, { ...ssd, length })),
    ).toBeUndefined();
  });
});

it('strong decay over a long chunk stays finite', () => {
  const { arrays, rest } = ssdInputs(96);
  const inputs = { ...arrays, ...rest, A: [-16, -300, -2000, -0.01] };
  const options = { ...ssd, length: 96, dtLimits: [0, 50] } as const;
  expect(difference(ssdChunkScan(inputs, { ...options, chunkLength: 96 }), ssdScan(inputs, options))).toBeUndefined();
});

describe.each(readCases<SsdOptions>('ssm').filter((item) => item.run === 'ssdScan'))('PyTorch case $name', (item) => {
  it.each([1, 2, 5, 64])('in chunks of %i', (chunkLength) => {
    expect(
      difference(ssdChunkScan(item.inputs as unknown as SsdInputs, { ...item.options, chunkLength }), item.expected),
    ).toBeUndefined();
  });
});

describe('ssdScan carries its state', () => {
  const length = 13;
  const { arrays, rest } = ssdInputs(length);
  const whole = ssdScan({ ...arrays, ...rest }, { ...ssd, length });

  it.each([0, 1, 6, 12])('two calls, cut at %i, are one call', (cut) => {
    const first = ssdScan({ ...part(arrays, length, 0, cut), ...rest }, { ...ssd, length: cut });
    const inputs = { ...part(arrays, length, cut, length), ...rest, state: first.state };
    const second = ssdScan(inputs, { ...ssd, length: length - cut });
    expect(difference({ y: joinTokens([first.y, second.y], batch), state: second.state }, whole)).toBeUndefined();
    const chunked = ssdChunkScan(inputs, { ...ssd, length: length - cut, chunkLength: 4 });
    expect(difference(chunked, second)).toBeUndefined();
  });

  it('steps are the whole', () => {
    const outputs: Float64Array[] = [];
    let state = rest.state;
    for (let l = 0; l < length; l++) {
      const step = ssdStep({ ...part(arrays, length, l, l + 1), ...rest, state }, ssd);
      outputs.push(step.y);
      state = step.state;
    }
    expect(difference({ y: joinTokens(outputs, batch), state }, whole)).toBeUndefined();
  });
});

describe('selectiveScan carries its state', () => {
  const length = 13;
  const options = { batch, channels: 6, groups: 2, stateSize: 4, dtSoftplus: true } as const;
  const draw = uniform(99);
  const rows = batch * length;
  const arrays = {
    u: draw(rows * 6),
    dt: draw(rows * 6, -2, 2),
    B: draw(rows * 8),
    C: draw(rows * 8),
    z: draw(rows * 6),
  };
  const rest = { A: draw(24, -4, -0.1), D: draw(6), dtBias: draw(6, -2, 0), state: draw(batch * 24) };
  const whole = selectiveScan({ ...arrays, ...rest }, { ...options, length });

  it.each([0, 1, 6, 12])('two calls, cut at %i, are one call', (cut) => {
    const first = selectiveScan({ ...part(arrays, length, 0, cut), ...rest }, { ...options, length: cut });
    const inputs: SelectiveScanInputs = { ...part(arrays, length, cut, length), ...rest, state: first.state };
    const second = selectiveScan(inputs, { ...options, length: length - cut });
    expect(difference({ y: joinTokens([first.y, second.y], batch), state: second.state }, whole)).toBeUndefined();
  });

  it('steps are the whole', () => {
    const outputs: Float64Array[] = [];
    let state: Float64Array = rest.state;
    for (let l = 0; l < length; l++) {
      const step = selectiveScanStep({ ...part(arrays, length, l, l + 1), ...rest, state }, options);
      outputs.push(step.y);
      state = step.state;
    }
    expect(difference({ y: joinTokens(outputs, batch), state }, whole)).toBeUndefined();
  });

  it('with one A per head it is ssdScan with heads of one channel', () => {
    const A = draw(6, -4, -0.1);
    const shared = { ...rest, A: A.reduce((all, a, e) => all.fill(a, 4 * e, 4 * e + 4), new Float64Array(24)) };
    const { u, ...others } = arrays;
    const heads = ssdScan({ x: u, ...others, ...rest, A }, { ...options, length, heads: 6, headDim: 1 });
    expect(difference(heads, selectiveScan({ ...arrays, ...shared }, { ...options, length }))).toBeUndefined();
  });
});
