import {
  ArgumentError,
  fromHalfBits,
  packMatrix,
  packQuants,
  quantizeRows,
  ShapeError,
  storagePlanes,
  toHalfBits,
  unpackMatrix,
  unpackQuants,
} from '@mambalab/kernels';
import type { BlockDtype, HostTensor } from '@mambalab/kernels';
import { dequantize } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { Random } from '../../support/numbers.ts';

const DTYPES: readonly BlockDtype[] = ['q8', 'q4'];

/** The scale of every block of a packed matrix. */
function scalesOf({ data, dtype, shape, rowStride = 0 }: HostTensor): number[] {
  const [, plane] = storagePlanes(dtype, shape[0] ?? 0, rowStride);
  const halves = new Uint16Array(data.buffer, plane?.byteOffset, ((shape[0] ?? 0) * rowStride) / 32);
  return Array.from(halves, fromHalfBits);
}

const squaredError = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, value, i) => sum + (value - (b[i] ?? NaN)) ** 2, 0);

describe.each(DTYPES)('%s', (dtype) => {
  it('stores what the reference reads, padding apart', () => {
    const random = new Random(1);
    for (const [rows, width] of [
      [1, 1],
      [3, 31],
      [2, 32],
      [5, 33],
      [4, 200],
    ] as const) {
      const packed = packMatrix(random.normals(rows * width), [rows, width], dtype);
      expect(packed.rowStride).toBe(Math.ceil(width / 32) * 32);
      const [, scales] = storagePlanes(dtype, rows, packed.rowStride ?? 0);
      const options = { dtype, rows, width, scalesAt: (scales?.byteOffset ?? 0) / 4 };
      expect(Array.from(unpackMatrix(packed))).toEqual(Array.from(dequantize({ words: packed.data }, options)));
      // What a row is padded with is 0.
      const whole = unpackMatrix({ ...packed, shape: [rows, packed.rowStride ?? 0] });
      expect(whole.filter((value, i) => i % (packed.rowStride ?? 1) >= width && value !== 0)).toHaveLength(0);
    }
  });

  it('packs quants as it packs values of scale 1', () => {
    const random = new Random(4);
    // The largest value makes the scale, which is then 1.
    const [least, most] = dtype === 'q8' ? [-127, 127] : [-8, 7];
    const quants = Int8Array.from({ length: 96 }, (_, i) => (i % 32 === 0 ? least : random.integer(least, most)));
    const { quants: expected, scales } = quantizeRows(quants, 96, dtype);
    expect([...scales].map(fromHalfBits)).toEqual([1, 1, 1]);
    expect(packQuants(quants, dtype)).toEqual(expected);
    expect(unpackQuants(expected, dtype)).toEqual(quants);
    expect(() => packQuants(quants.subarray(1), dtype)).toThrow(ShapeError);
  });

  it('is within half a scale of every value, or a scale and a half beyond the last quant of q4', () => {
    const random = new Random(2);
    // Scales of small values are subnormal.
    for (const scale of [1, 1e-3, 1e-6, 3e4]) {
      const values = random.normals(64 * 96, scale);
      const packed = packMatrix(values, [64, 96], dtype);
      const scales = scalesOf(packed);
      const read = unpackMatrix(packed);
      for (const [i, value] of values.entries()) {
        const step = scales[Math.floor(i / 32)] ?? NaN;
        const bound = Math.abs(step) * (dtype === 'q4' && value / step > 7.5 ? 1.5 : 0.5);
        expect(Math.abs((read[i] ?? NaN) - value)).toBeLessThanOrEqual(bound * (1 + 1e-6));
      }
    }
  });

  it('keeps zeros, constants and single values', () => {
    expect(unpackMatrix(packMatrix(new Float32Array(64), [2, 32], dtype))).toEqual(new Float32Array(64));
    for (const value of [3, -3, 1e-4, -448]) {
      const read = unpackMatrix(packMatrix(new Float32Array(32).fill(value), [1, 32], dtype));
      expect(new Set(read).size).toBe(1);
      expect(Math.abs((read[0] ?? NaN) / value - 1)).toBeLessThan(0.005);
    }
    const single = new Float32Array(32);
    single[17] = -1.75;
    const read = unpackMatrix(packMatrix(single, [1, 32], dtype));
    expect(Math.abs((read[17] ?? NaN) + 1.75)).toBeLessThan(1e-3);
    expect(read.filter((value) => value !== 0)).toHaveLength(1);
  });

  it('refuses what no scale can hold', () => {
    const block = (value: number): Float32Array => new Float32Array(32).fill(1).fill(value, 5, 6);
    const most = dtype === 'q8' ? 127 * 65_504 : 8 * 65_504;
    for (const value of [NaN, Infinity, -Infinity, most * 1.01, -most * 1.01, 1e30]) {
      expect(() => packMatrix(block(value), [1, 32], dtype)).toThrow(ArgumentError);
    }
    expect(unpackMatrix(packMatrix(block(most), [1, 32], dtype))[5]).toBe(most);
  });

  it('refuses rows that are not whole', () => {
    expect(() => quantizeRows(new Float32Array(70), 32, dtype)).toThrow(ShapeError);
    expect(() => quantizeRows(new Float32Array(70), 0, dtype)).toThrow(ShapeError);
    expect(() => packMatrix(new Float32Array(70), [2, 32], dtype)).toThrow(ShapeError);
  });

  it('stores the matrices of experts as rows of one', () => {
    const values = new Random(6).normals(3 * 5 * 40);
    const packed = packMatrix(values, [3, 5, 40], dtype);
    const flat = packMatrix(values, [15, 40], dtype);
    expect(packed).toEqual({ ...flat, shape: [3, 5, 40] });
    expect(unpackMatrix(packed)).toEqual(unpackMatrix(flat));
    expect(() => packMatrix(values, [3, 4, 40], dtype)).toThrow(/\(3, 4, 40\) matrix has 480 values; found 600/);
  });

  it('is the same in pieces of rows', () => {
    const values = new Random(3).normals(6 * 40);
    const whole = quantizeRows(values, 40, dtype);
    const pieces = [values.subarray(0, 2 * 40), values.subarray(2 * 40)].map((rows) => quantizeRows(rows, 40, dtype));
    expect(pieces.flatMap(({ quants }) => Array.from(quants))).toEqual(Array.from(whole.quants));
    expect(pieces.flatMap(({ scales }) => Array.from(scales))).toEqual(Array.from(whole.scales));
  });
});

/** The smallest squared error of a block in q4, over every finite scale of f16 that is not far too small or large. */
function leastError(values: Float32Array): number {
  const extreme = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const [first, last] = [toHalfBits(extreme / 16), toHalfBits(extreme / 4)];
  let least = Infinity;
  for (let bits = first; bits <= Math.min(last, 0x7bff); bits++) {
    for (const scale of [fromHalfBits(bits), -fromHalfBits(bits)]) {
      let error = 0;
      for (const value of values) {
        const quant = Math.min(7, Math.max(-8, Math.round(value / scale)));
        error += (value - quant * scale) ** 2;
      }
      least = Math.min(least, error);
    }
  }
  return least;
}

describe('the search for scales of q4', () => {
  const blocks: readonly (readonly [string, (random: Random) => Float32Array])[] = [
    ['normal', (random) => random.normals(32)],
    ['uniform', (random) => random.uniforms(32, -1, 1)],
    ['positive', (random) => random.uniforms(32, 0, 1)],
    ['an outlier', (random) => random.normals(32).fill(25, 3, 4)],
    ['symmetric', (random) => random.normals(32).map((value, i, all) => (i < 16 ? value : -(all[i - 16] ?? 0)))],
    ['near the end of f16', (random) => random.uniforms(32, -5e5, 5e5)],
    [
      'two values',
      (random) => random.integers(32, 2).reduce((all, value, i) => all.fill(value, i, i + 1), new Float32Array(32)),
    ],
  ];

  it.each(blocks)('is never worse than the plain scale: %s', (_, draw) => {
    const random = new Random(4);
    for (let trial = 0; trial < 200; trial++) {
      const values = draw(random);
      const plain = unpackMatrix(packMatrix(values, [1, 32], 'q4'));
      const searched = unpackMatrix(packMatrix(values, [1, 32], 'q4', { search: true }));
      expect(squaredError(searched, values)).toBeLessThanOrEqual(squaredError(plain, values));
    }
  });

  it('comes near the best of all scales that there are', () => {
    const random = new Random(8);
    for (const [, draw] of blocks) {
      const values = draw(random);
      const least = leastError(values);
      const found = squaredError(unpackMatrix(packMatrix(values, [1, 32], 'q4', { search: true })), values);
      expect(found).toBeGreaterThanOrEqual(least * (1 - 1e-6));
      expect(found).toBeLessThanOrEqual(1.1 * least + 1e-9);
    }
  });

  it('chooses the same scales each time', () => {
    const values = new Random(9).normals(96 * 8);
    const once = quantizeRows(values, 96, 'q4', { search: true });
    expect(quantizeRows(values, 96, 'q4', { search: true })).toEqual(once);
    expect(quantizeRows(Float32Array.from(values), 96, 'q4', { search: true })).toEqual(once);
  });

  it('makes the error of normal values a tenth smaller', () => {
    const values = new Random(5).normals(32 * 500);
    const error = (search: boolean): number =>
      squaredError(unpackMatrix(packMatrix(values, [500, 32], 'q4', { search })), values);
    expect(error(true) / error(false)).toBeLessThan(0.9);
  });

  it('leaves zeros alone', () => {
    const read = unpackMatrix(packMatrix(new Float32Array(32), [1, 32], 'q4', { search: true }));
    expect(read).toEqual(new Float32Array(32));
  });
});

describe('unpackMatrix', () => {
  it.each(['f32', 'f16', 'bf16'] as const)('reads rows of %s without their padding', (dtype) => {
    const values = Float32Array.from([1, -2, 0.5, 3, 1024, -0.25]);
    expect(unpackMatrix(packMatrix(values, [2, 3], dtype))).toEqual(values);
  });

  it('refuses what is no matrix', () => {
    for (const shape of [[4], [1, 1, 2, 2]]) {
      expect(() => unpackMatrix({ data: new Uint32Array(4), shape, dtype: 'f32' })).toThrow(ShapeError);
    }
    expect(() => unpackMatrix({ data: new Uint32Array(4), shape: [2, 2], dtype: 'u32' })).toThrow(ShapeError);
  });
});
