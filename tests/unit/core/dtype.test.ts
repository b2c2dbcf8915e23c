import {
  isQuantized,
  matrixRowStride,
  ShapeError,
  storageBytes,
  storagePlanes,
  tensorBytes,
  valuesPerWord,
} from '@mambalab/kernels';
import type { Dtype } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';

const DTYPES: readonly Dtype[] = ['f32', 'u32', 'i32', 'f16', 'bf16', 'q8', 'q4'];

describe('matrixRowStride', () => {
  it.each(DTYPES)('begins rows of %s at 16 bytes and at whole blocks', (dtype) => {
    for (let width = 1; width <= 130; width++) {
      const stride = matrixRowStride(dtype, width);
      const unit = isQuantized(dtype) ? 32 : 8;
      expect(stride % unit).toBe(0);
      expect(stride).toBeGreaterThanOrEqual(width);
      expect(stride).toBeLessThan(width + unit);
      expect(((stride / valuesPerWord(dtype)) * 4) % 16).toBe(0);
    }
  });
});

describe('storagePlanes', () => {
  it('is one plane of whole words where values stand alone', () => {
    expect(storagePlanes('f32', 3, 5)).toEqual([{ name: 'values', byteOffset: 0, byteLength: 60 }]);
    expect(storagePlanes('f16', 3, 6)).toEqual([{ name: 'values', byteOffset: 0, byteLength: 36 }]);
    expect(storagePlanes('bf16', 1, 3)).toEqual([{ name: 'values', byteOffset: 0, byteLength: 8 }]);
  });

  it('is quants and scales for blocks, the scales where they can be bound', () => {
    // 5 rows of 3 blocks: 480 values, 15 scales of 2 bytes.
    expect(storagePlanes('q8', 5, 96)).toEqual([
      { name: 'quants', byteOffset: 0, byteLength: 480 },
      { name: 'scales', byteOffset: 512, byteLength: 32 },
    ]);
    expect(storagePlanes('q4', 5, 96)).toEqual([
      { name: 'quants', byteOffset: 0, byteLength: 240 },
      { name: 'scales', byteOffset: 256, byteLength: 32 },
    ]);
    expect(storageBytes('q4', 5, 96)).toBe(288);
  });

  it('keeps planes apart and within the tensor, whatever the size', () => {
    for (const dtype of ['q8', 'q4'] as const) {
      for (let rows = 1; rows < 20; rows++) {
        const [quants, scales] = storagePlanes(dtype, rows, 32 * ((rows % 4) + 1));
        if (quants === undefined || scales === undefined) throw new Error('a block format has two planes');
        expect(quants.byteOffset + quants.byteLength).toBeLessThanOrEqual(scales.byteOffset);
        expect(scales.byteOffset % 256).toBe(0);
        expect(scales.byteLength % 4).toBe(0);
        expect(scales.byteOffset + scales.byteLength).toBe(storageBytes(dtype, rows, 32 * ((rows % 4) + 1)));
      }
    }
  });

  it('refuses rows of broken blocks', () => {
    expect(() => storagePlanes('q8', 2, 40)).toThrow(ShapeError);
    expect(() => storageBytes('q4', 2, 8)).toThrow(ShapeError);
  });
});

it('tensors take whole vec4s, and never nothing', () => {
  expect(tensorBytes('f32', [1], 1)).toBe(16);
  expect(tensorBytes('f32', [3, 5], 5)).toBe(64);
  expect(tensorBytes('f16', [2, 3, 4], 8)).toBe(96);
});
