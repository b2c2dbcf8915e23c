import { f16ToF32Bits, f32BitsToBf16, f32BitsToF16, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import {
  countNonFinite,
  packBf16,
  packF16,
  toFloat32,
  toPackedBf16,
  toPackedF16,
} from '../../../packages/models/src/weights/convert.ts';

const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const allHalves = Uint16Array.from({ length: 0x10000 }, (_, half) => half);
const halvesOf = (words: Uint32Array): Uint16Array => new Uint16Array(words.buffer);
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;

/** The definition of IEEE 754 half precision. */
function halfValue(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

describe('f16', () => {
  it('becomes the float32 of the same value, for all 65536 patterns', () => {
    const values = toFloat32(bytesOf(allHalves), 'F16');
    expect([...allHalves].filter((half) => !Object.is(values[half], halfValue(half)))).toEqual([]);
  });

  it('comes back the same, for all 65536 patterns', () => {
    const back = (half: number): number => f32BitsToF16(f16ToF32Bits(half) >>> 0);
    // A signalling NaN comes back quiet.
    const expected = (half: number): number => ((half & 0x7fff) > 0x7c00 ? half | 0x200 : half);
    expect([...allHalves].filter((half) => back(half) !== expected(half))).toEqual([]);
  });

  it('rounds to nearest, ties to even, between all neighbours', () => {
    const word = new Float32Array(1);
    const bits = new Uint32Array(word.buffer);
    const round = (value: number, step: number): number => {
      word[0] = value;
      return f32BitsToF16((bits[0] ?? 0) + step);
    };
    const wrong = [...allHalves.subarray(0, 0x7bff)].filter((half) => {
      // The middle of two f16 neighbours is exact in float32.
      const middle = (halfValue(half) + halfValue(half + 1)) / 2;
      const even = half % 2 === 0 ? half : half + 1;
      const found = [round(middle, -1), round(middle, 0), round(middle, 1), round(-middle, 0)];
      return found.join() !== [half, even, half + 1, even | 0x8000].join();
    });
    expect(wrong).toEqual([]);
  });

  it.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e30, 0xfc00],
    [Infinity, 0x7c00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.001, 0x0001],
    [1e-45, 0x0000],
    [0.1, 0x2e66],
    [1 / 3, 0x3555],
  ])('of %f is 0x%s', (value, half) => {
    expect(f32BitsToF16(bitsOf(value))).toBe(half);
  });

  it('counts the finite values that became infinite', () => {
    const { words, overflows } = packF16(Float32Array.of(1, 65520, -7e4, Infinity, NaN));
    expect(overflows).toBe(2);
    expect([...halvesOf(words)]).toEqual([0x3c00, 0x7c00, 0xfc00, 0x7c00, 0x7e00, 0]);
  });
});

describe('bf16', () => {
  it('is the upper half of a float32, and comes back the same, for all 65536 patterns', () => {
    const values = toFloat32(bytesOf(allHalves), 'BF16');
    const bits = new Uint32Array(values.buffer);
    const back = halvesOf(packBf16(values).words);
    // A signalling NaN comes back quiet.
    const expected = (half: number): number => ((half & 0x7fff) > 0x7f80 ? half | 0x40 : half);
    expect([...allHalves].filter((half) => bits[half] !== half * 0x10000)).toEqual([]);
    expect([...allHalves].filter((half) => back[half] !== expected(half))).toEqual([]);
  });

  it.each([
    [0x3f808000, 0x3f80],
    [0x3f818000, 0x3f82],
    [0x3f808001, 0x3f81],
    [0x3f807fff, 0x3f80],
    [0xbf818000, 0xbf82],
    [0x00008000, 0x0000],
    [0x00018000, 0x0002],
    [0x7f7fffff, 0x7f80],
    [0x7f800001, 0x7fc0],
    [0xff800001, 0xffc0],
    [0xff800000, 0xff80],
  ])('of the float32 pattern %i is %i', (bits, half) => {
    expect(f32BitsToBf16(bits)).toBe(half);
  });

  it('counts the finite values that became infinite', () => {
    expect(packBf16(Float32Array.of(3.4e38, -3.4028234e38, 3.38e38, Infinity)).overflows).toBe(2);
  });
});

describe('rows of weights', () => {
  it('are passed on without arithmetic where the type is already right', () => {
    expect([...halvesOf(toPackedF16(bytesOf(allHalves), 'F16').words)]).toEqual([...allHalves]);
    expect([...halvesOf(toPackedBf16(bytesOf(allHalves), 'BF16').words)]).toEqual([...allHalves]);
    // A signalling NaN would not survive arithmetic.
    const bits = Uint32Array.of(0x7f800001, 0x80000000, 0x00000001);
    const values = toFloat32(bytesOf(bits), 'F32');
    expect([...new Uint32Array(values.buffer, values.byteOffset, 3)]).toEqual([...bits]);
  });

  it('go through float32 otherwise', () => {
    const values = [1, -0.5, 3];
    expect([...halvesOf(toPackedF16(bytesOf(Float32Array.from(values)), 'F32').words)]).toEqual([
      0x3c00, 0xb800, 0x4200, 0,
    ]);
    expect([...halvesOf(toPackedBf16(bytesOf(Float64Array.from(values)), 'F64').words)]).toEqual([
      0x3f80, 0xbf00, 0x4040, 0,
    ]);
    expect([...toFloat32(bytesOf(Float64Array.of(0.1)), 'F64')]).toEqual([Math.fround(0.1)]);
  });

  it.each(['F32', 'F16', 'BF16', 'F64'] as const)('of %s may begin at any byte of a buffer', (dtype) => {
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i + 48);
    const shifted = new Uint8Array(17);
    shifted.set(bytes, 1);
    expect(toFloat32(shifted.subarray(1), dtype)).toEqual(toFloat32(bytes, dtype));
    expect(toPackedF16(shifted.subarray(1), dtype)).toEqual(toPackedF16(bytes, dtype));
  });

  it('are refused in other types or cut elements', () => {
    expect(() => toFloat32(new Uint8Array(8), 'I64')).toThrow(UnsupportedModelError);
    expect(() => toFloat32(new Uint8Array(8), 'F8_E4M3')).toThrow(UnsupportedModelError);
    expect(() => toFloat32(new Uint8Array(6), 'F32')).toThrow(WeightFormatError);
    expect(() => toPackedF16(new Uint8Array(3), 'F16')).toThrow(WeightFormatError);
  });

  it('can be searched for values that are not finite', () => {
    expect(countNonFinite(Float32Array.of(0, -0, 3.4e38, 1e-45))).toBe(0);
    expect(countNonFinite(Float32Array.of(1, NaN, Infinity, -Infinity))).toBe(3);
    expect(countNonFinite(new Float32Array(Float32Array.of(NaN, 1).buffer, 4))).toBe(0);
  });
});
