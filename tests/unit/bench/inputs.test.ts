import { Random } from '@mambalab/bench';
import { matrixRowStride } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { hostInput, inputBytes, inputRowStride } from '../../../packages/bench/src/harness/inputs.ts';

describe('Random', () => {
  it('repeats itself for a seed and differs for another', () => {
    expect(new Random(1).normals(5)).toEqual(new Random(1).normals(5));
    expect(new Random(1).normals(5)).not.toEqual(new Random(2).normals(5));
  });

  it('has the mean and deviation asked for', () => {
    const values = new Random(3).normals(20_000, 2, 5);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    expect(Math.abs(mean - 5)).toBeLessThan(0.1);
    expect(Math.abs(deviation - 2)).toBeLessThan(0.1);
  });

  it('draws integers below a bound, all of them', () => {
    expect(new Set(new Random(4).integers(1000, 5))).toEqual(new Set([0, 1, 2, 3, 4]));
  });
});

describe('hostInput', () => {
  it('repeats words', () => {
    const { values } = hostInput(new Random(1), { shape: [3, 2], dtype: 'u32', words: [7, 9] });
    expect([...values]).toEqual([7, 9, 7, 9, 7, 9]);
  });

  it.each(['f32', 'f16', 'bf16', 'q8', 'q4'] as const)('pads the rows of a %s matrix', (dtype) => {
    const spec = { shape: [3, 13], dtype, matrix: true };
    const { host, values } = hostInput(new Random(1), spec);
    expect(values.length).toBe(39);
    expect(host.rowStride).toBe(matrixRowStride(dtype, 13));
    expect(inputRowStride(spec)).toBe(host.rowStride);
    expect(Math.ceil(host.data.byteLength / 16) * 16).toBe(inputBytes(spec));
  });

  it('rounds what the reference sees as the device does', () => {
    const { values } = hostInput(new Random(1), { shape: [64], dtype: 'bf16' });
    // Eight bits of mantissa: the lower half of each float is zero.
    expect(new Uint32Array(values.buffer).every((bits) => (bits & 0xffff) === 0)).toBe(true);
  });

  it('packs rows of odd width that are no matrix', () => {
    const { host } = hostInput(new Random(1), { shape: [3, 5], dtype: 'f16' });
    expect(host.rowStride).toBe(6);
    expect(host.data.length).toBe(9);
  });
});
