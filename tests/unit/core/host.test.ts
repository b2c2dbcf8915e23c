import { fromBfloatBits, fromHalfBits, packMatrix, ShapeError, toBfloatBits, toHalfBits } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';

const PATTERNS = 65_536;
const FORMATS = [
  { name: 'half', to: toHalfBits, of: fromHalfBits, infinity: 0x7c00, quietBit: 0x200 },
  { name: 'bfloat', to: toBfloatBits, of: fromBfloatBits, infinity: 0x7f80, quietBit: 0x40 },
] as const;

describe.each(FORMATS)('$name precision', ({ to, of, infinity, quietBit }) => {
  it('keeps every pattern', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < PATTERNS; bits++) {
      const value = of(bits);
      const back = to(value);
      const isNaN = (bits & 0x7fff) > infinity;
      // A NaN stays one, its payload may change.
      const kept = isNaN ? Number.isNaN(value) && (back & 0x7fff) > infinity && (back & quietBit) !== 0 : back === bits;
      if (!kept) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  it('rounds what lies between two patterns to the nearest, and ties to even', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits + 1 < infinity; bits++) {
      const low = of(bits);
      const high = of(bits + 1);
      const middle = (low + high) / 2;
      // A float32 holds the middle exactly, and these neighbours of it, where it is no subnormal of its own.
      const step = Math.max((high - low) / 64, 2 ** -149);
      const even = bits % 2 === 0 ? bits : bits + 1;
      const exact = Math.fround(middle) === middle && middle - step > low;
      if (exact && (to(middle) !== even || to(middle - step) !== bits || to(middle + step) !== bits + 1))
        wrong.push(bits);
      if (exact && to(-middle) !== (even | 0x8000)) wrong.push(-bits);
    }
    expect(wrong).toEqual([]);
  });

  it('gives infinity beyond its range', () => {
    const largest = of(infinity - 1);
    const beyond = largest + (largest - of(infinity - 2)) / 2;
    expect(to(Infinity)).toBe(infinity);
    expect(to(-Infinity)).toBe(infinity | 0x8000);
    expect(to(beyond)).toBe(infinity);
    expect(to(largest)).toBe(infinity - 1);
    expect(to(-0)).toBe(0x8000);
  });
});

describe('packMatrix', () => {
  const values = [1, -2, 0.5, 3, 65504, -0.25];

  it.each(['f32', 'f16', 'bf16'] as const)('pads rows of %s with zeros', (dtype) => {
    const { data, shape, rowStride } = packMatrix(values, [2, 3], dtype);
    expect(shape).toEqual([2, 3]);
    expect(rowStride).toBe(8);
    const halves = new Uint16Array(data.buffer);
    const at = (index: number): number =>
      dtype === 'f32' ? (data[index] ?? NaN) : (dtype === 'f16' ? fromHalfBits : fromBfloatBits)(halves[index] ?? NaN);
    const expected = [1, -2, 0.5, 0, 0, 0, 0, 0, 3, dtype === 'bf16' ? 65536 : 65504, -0.25, 0, 0, 0, 0, 0];
    expect(expected.map((_, index) => at(index))).toEqual(expected);
  });

  it('refuses other counts and dtypes', () => {
    expect(() => packMatrix(values, [2, 4], 'f32')).toThrow(ShapeError);
    expect(() => packMatrix(values, [2, 3], 'u32')).toThrow(ShapeError);
  });
});
