import { describe, expect, it } from 'vitest';
import * as reference from '@mambalab/kernels/reference';
import { difference, readCases, stems } from './support.ts';

type Run = (...args: readonly unknown[]) => object | number;

/** A reference function by its exported name; the fixtures hold its inputs and options as they are. */
function find(name: string): Run {
  const found = (reference as unknown as Record<string, Run>)[name];
  if (found === undefined) throw new Error(`no reference function is called ${name}`);
  return found;
}

// The others compose several functions, or are none of arrays: they have tests of their own.
const OTHERS = ['activations', 'mixers'];

describe.each(stems().filter((stem) => !OTHERS.includes(stem)))('%s agrees with PyTorch', (stem) => {
  it.each(readCases(stem).map((item) => [`${item.run}: ${item.name}`, item] as const))('%s', (_, item) => {
    const run = find(item.run);
    // The functions without inputs take their options first.
    const args = Object.keys(item.inputs).length === 0 ? [item.options] : [item.inputs, item.options];
    const result: object | number = run(...args);
    expect(difference(typeof result === 'number' ? [result] : result, item.expected)).toBeUndefined();
  });
});

describe('activations agree with PyTorch', () => {
  const scalar: Record<string, (x: number) => number> = {
    erf: reference.erf,
    erfc: reference.erfc,
    sigmoid: reference.sigmoid,
    softplus: reference.softplus,
    silu: reference.silu,
    gelu: reference.gelu,
    geluTanh: reference.geluTanh,
  };
  it.each(readCases('activations').map((item) => [item.name, item] as const))('%s', (name, item) => {
    const x = item.inputs['x'] ?? [];
    const direct = scalar[name];
    const activated = (value: number): number => reference.activate(name as reference.Activation, value);
    expect(difference(x.map(direct ?? activated), item.expected, 1e-15)).toBeUndefined();
    if (!['silu', 'gelu', 'geluTanh'].includes(name)) return;
    expect(x.map(activated)).toEqual(x.map(direct ?? activated));
  });

  it('erf and erfc are accurate to 1e-15 and erfc keeps its relative precision', () => {
    // erf(1/2), erf(2), erfc(2), erfc(5) and erfc(10), computed to 40 digits and rounded to float64.
    expect(difference([reference.erf(0.5)], [0.5204998778130465], 1e-15)).toBeUndefined();
    expect(difference([reference.erf(2)], [0.9953222650189527], 1e-15)).toBeUndefined();
    expect(difference([reference.erfc(2) / 0.004677734981047266], [1], 1e-14)).toBeUndefined();
    expect(difference([reference.erfc(5) / 1.537459794428035e-12], [1], 1e-14)).toBeUndefined();
    expect(difference([reference.erfc(10) / 2.088487583762545e-45], [1], 1e-13)).toBeUndefined();
    expect(reference.erf(0)).toBe(0);
    expect([reference.erf(Infinity), reference.erf(-Infinity)]).toEqual([1, -1]);
    expect(reference.erf(NaN)).toBeNaN();
  });
});

describe('edges', () => {
  it('a wrong length says which input, what was expected and what was found', () => {
    const options = { rows: 2, inner: 3, outputs: 4 };
    expect(() => reference.matmul({ x: [1, 2, 3], weight: new Float64Array(12) }, options)).toThrow(
      'x: expected 6 elements [2, 3], found 3',
    );
  });
  it('heads must be a multiple of groups', () => {
    const options = { batch: 1, length: 1, heads: 3, headDim: 1, groups: 2, stateSize: 1 };
    expect(() => reference.ssdScan({ x: [], dt: [], A: [], B: [], C: [] }, options)).toThrow(RangeError);
  });
  it('a token outside the vocabulary throws', () => {
    const options = { rows: 1, vocabulary: 2, width: 1 };
    expect(() => reference.embed({ table: [1, 2], tokens: [2] }, options)).toThrow(RangeError);
    expect(() => reference.embed({ table: [1, 2], tokens: [-1] }, options)).toThrow(RangeError);
  });
  it('argmax takes the first of equal elements and never a NaN', () => {
    const x = [1, 3, 3, 2, NaN, -5, -5, -7];
    expect([...reference.argmax({ x }, { rows: 2, width: 4 })]).toEqual([1, 1]);
  });
  it('a query that sees no key gives 0', () => {
    const options = { batch: 1, length: 2, keyLength: 1, heads: 1, kvHeads: 1, headDim: 1, causal: true };
    expect([...reference.attention({ q: [1, 1], k: [1], v: [7] }, options)]).toEqual([0, 7]);
  });
  it('inputs are not changed', () => {
    const state = Float64Array.from([1, 2]);
    const options = { batch: 1, length: 1, heads: 1, headDim: 1, groups: 1, stateSize: 2 };
    reference.ssdScan({ x: [1], dt: [1], A: [-1], B: [1, 1], C: [1, 1], state }, options);
    const residual = Float64Array.from([5]);
    const mlp = { rows: 1, width: 1, hidden: 1, activation: 'none' } as const;
    reference.fusedMlp({ x: [1], up: [1], down: [1], residual }, mlp);
    expect([...state, ...residual]).toEqual([1, 2, 5]);
  });
});
