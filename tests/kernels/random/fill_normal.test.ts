import type { Dtype, FillNormalOptions, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  BASELINE_CAPABILITIES,
  columns,
  Executor,
  fillNormal,
  fromBfloatBits,
  fromHalfBits,
  matrixRowStride,
  namedSize,
  Recording as Record,
  rowsOf,
  run,
  ShapeError,
  storageBytes,
  storagePlanes,
  unpackMatrix,
} from '@mambalab/kernels';
import { erfc, fillNormal as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
type Plain = 'f32' | 'f16' | 'bf16';
const PLAIN: readonly Plain[] = ['f32', 'f16', 'bf16'];
// Roundings of the logarithm, the root and the series of the sine; then one step of the dtype.
const TOLERANCE = {
  f32: { rtol: 1e-6, atol: 1e-6 },
  f16: { rtol: 2 ** -10, atol: 2e-6 },
  bf16: { rtol: 2 ** -8, atol: 1e-6 },
};
const SEED = [0xdeadbeef, 0x12345678] as const;
const POISON = 0xffffffff;

/** A tensor whose every bit is 1. */
function poisoned(dtype: Dtype, shape: readonly number[], rowStride: number): HostTensor {
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const words = new Uint32Array(Math.ceil(storageBytes(dtype, rows, rowStride) / 4)).fill(POISON);
  const data = dtype === 'f32' ? new Float32Array(words.buffer) : words;
  return { data, shape, dtype, rowStride };
}

/** Bits of the values of a plain tensor, one after another. */
function bitsOf({ data, dtype }: HostTensor): Uint16Array | Uint32Array {
  return dtype === 'f32' ? new Uint32Array(data.buffer) : new Uint16Array(data.buffer);
}

function valueOf(bits: number, dtype: Plain): number {
  if (dtype === 'f32') return new Float32Array(Uint32Array.of(bits).buffer)[0] ?? NaN;
  return dtype === 'f16' ? fromHalfBits(bits) : fromBfloatBits(bits);
}

/** Fills columns of a poisoned tensor of `stride` columns; gives all of it. */
const fillColumns = (
  dtype: Plain,
  [rows, width, stride, start]: readonly [number, number, number, number],
  options: FillNormalOptions,
): Promise<HostTensor> => {
  const kernel = (recording: Recording, { wide }: { wide: TensorRef }): TensorRef => {
    const out = columns(wide, start, start + width);
    expect(fillNormal(recording, { out }, options)).toBe(out);
    return wide;
  };
  return run(device, kernel, { wide: poisoned(dtype, [rows, stride], stride) }, undefined, { executor });
};

/** A new tensor of rows without gaps, filled. */
const fill = (
  dtype: Dtype,
  shape: readonly number[],
  options: FillNormalOptions,
  stride = shape[shape.length - 1] ?? 0,
): Promise<HostTensor> => run(device, fillNormal, { out: poisoned(dtype, shape, stride) }, options, { executor });

describe.each(PLAIN)('fillNormal of %s', (dtype) => {
  // Loads of 4 and 8 values, workgroups of 64 loads; rows that follow each other, are padded, or lie among other columns.
  it.each([
    [1, 1, 2, 0],
    [1, 2, 2, 0],
    [3, 3, 4, 0],
    [3, 4, 8, 2],
    [2, 7, 8, 0],
    [2, 8, 8, 0],
    [3, 9, 16, 4],
    [5, 6, 6, 0],
    [1, 255, 256, 0],
    [1, 256, 256, 0],
    [2, 258, 258, 0],
    [2, 511, 512, 0],
    [3, 514, 518, 2],
  ])('%i rows of %i values, %i apart, from column %i', async (rows, width, stride, start) => {
    const options = { seed: SEED, first: 12, scale: 0.5, offset: -0.25 };
    const filled = await fillColumns(dtype, [rows, width, stride, start], options);
    const bits = Array.from(bitsOf(filled)).slice(0, rows * stride);
    const expected = reference({ count: rows * width, ...options });
    const columnsOf = bits.map((_, at) => (at % stride) - start);
    const isInside = columnsOf.map((column) => column >= 0 && column < width);
    const found = bits.map((word) => valueOf(word, dtype)).filter((_, at) => isInside[at]);
    expectClose(found, expected, TOLERANCE[dtype]);
    // A word that is begun is written whole, and nothing else.
    const ends = dtype === 'f32' ? width : Math.ceil(width / 2) * 2;
    const untouched = dtype === 'f32' ? POISON : 0xffff;
    const beside = columnsOf.map((column) => (column >= width && column < ends ? 0 : untouched));
    const outside = (_: number, at: number): boolean => isInside[at] === false;
    expectSameBits(bits.filter(outside), beside.filter(outside));
  });

  it.each([1, 2, 3, 2 ** 32 - 9, 2 ** 34 - 11, 2 ** 53 - 100])('counts from value %i', async (first) => {
    const bits = Array.from(bitsOf(await fillColumns(dtype, [2, 14, 16, 0], { seed: 5, first })));
    const found = bits.filter((_, at) => at % 16 < 14).map((word) => valueOf(word, dtype));
    expectClose(found, reference({ count: 28, seed: [5, 0], first }), TOLERANCE[dtype]);
  });

  it('fills parts with the bits of the whole', async () => {
    const [rows, width] = [9, 22];
    const options = { seed: 3, first: 1000 };
    const whole = bitsOf(await fill(dtype, [rows, width], options));
    const parts = (recording: Recording, { out }: { out: TensorRef }): TensorRef => {
      for (const [from, count] of [
        [4, 5],
        [0, 1],
        [1, 3],
      ] as const) {
        fillNormal(recording, { out: rowsOf(out, from, count) }, { seed: 3, first: 1000 + from * width });
      }
      return out;
    };
    const out = poisoned(dtype, [rows, width], width);
    expectSameBits(bitsOf(await run(device, parts, { out }, undefined, { executor })), whole);
    // Neither does the shape matter, nor the seed's form.
    expectSameBits(bitsOf(await fill(dtype, [3, 1, 66], { seed: [3, 0], first: 1000 })), whole);
  });
});

describe.each(['q8', 'q4'] as const)('fillNormal of %s', (dtype) => {
  // One block and more, rows that end within a load, and an odd number of blocks, whose last scale has a word for itself.
  it.each([
    [1, 1],
    [1, 32],
    [3, 33],
    [2, 50],
    [5, 96],
    [1, 2081],
  ])('%i rows of %i values', async (rows, width) => {
    const stride = matrixRowStride(dtype, width);
    for (const first of [8, 9]) {
      const filled = await fill(dtype, [rows, width], { seed: SEED, first, scale: 0.02 }, stride);
      // The scale is rounded to f16.
      const expected = reference({ count: rows * width, seed: SEED, first, scale: 0.02, quants: dtype });
      expectClose(unpackMatrix(filled), expected, { rtol: 2 ** -11 + 1e-6, atol: 1e-9 });
      // Blocks end with zeros.
      const blocks = unpackMatrix({ ...filled, shape: [rows, stride] });
      const padding = blocks.filter((_, i) => i % stride >= width);
      expect(padding.every((value) => value === 0)).toBe(true);
      const [, scales] = storagePlanes(dtype, rows, stride);
      const halves = new Uint16Array(filled.data.buffer, scales?.byteOffset, (scales?.byteLength ?? 0) / 2);
      const count = (rows * stride) / 32;
      expect(new Set(halves.subarray(0, count)).size).toBe(1);
      expect(halves.subarray(count)).toEqual(new Uint16Array(count % 2));
    }
  });

  it('has the deviation that is asked for', async () => {
    const count = 2 ** 16;
    const { mean, deviation } = momentsOf(unpackMatrix(await fill(dtype, [256, 256], { seed: 2, scale: 0.01 })));
    expect(Math.abs(mean)).toBeLessThan((4 * 0.01) / Math.sqrt(count));
    // 2^-11 for the scale's rounding.
    expect(Math.abs(deviation / 0.01 - 1)).toBeLessThan(2 ** -11 + 4 / Math.sqrt(2 * count));
  });

  it('stores zeros where there is no deviation', async () => {
    const filled = await fill(dtype, [2, 64], { seed: 2, scale: 0 });
    expect(unpackMatrix(filled).every((value) => value === 0)).toBe(true);
  });
});

function momentsOf(values: ArrayLike<number>): { readonly mean: number; readonly deviation: number } {
  const all = Float64Array.from(values);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const squares = all.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / all.length) };
}

describe('fillNormal', () => {
  it('draws from the normal distribution', async () => {
    const count = 2 ** 16;
    const [scale, offset] = [3, 20];
    const { data } = await fill('f32', [256, 256], { seed: 7, scale, offset });
    const z = Float64Array.from(data, (value) => (value - offset) / scale);
    const { mean, deviation } = momentsOf(z);
    expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(count));
    expect(Math.abs(deviation ** 2 - 1)).toBeLessThan(4 * Math.sqrt(2 / count));
    const sorted = z.toSorted();
    const distance = sorted.reduce((largest, value, i) => {
      const below = erfc(-value / Math.SQRT2) / 2;
      return Math.max(largest, below - i / count, (i + 1) / count - below);
    }, 0);
    // One sample in a hundred is further away (Kolmogorov and Smirnov); the seed is fixed.
    expect(distance).toBeLessThan(1.63 / Math.sqrt(count));
    // Neighbours, of which two have a radius in common and four a block.
    for (const lag of [1, 2, 3, 4, 256]) {
      const product = z.reduce((sum, value, i) => sum + value * (z[i + lag] ?? 0), 0) / (count - lag);
      expect(Math.abs(product)).toBeLessThan(4 / Math.sqrt(count));
      const squares = z.reduce((sum, value, i) => sum + (value ** 2 - 1) * ((z[i + lag] ?? 1) ** 2 - 1), 0) / count;
      expect(Math.abs(squares)).toBeLessThan(8 / Math.sqrt(count));
    }
  });

  it('gives other numbers for each seed, in either word', async () => {
    const seeds = [0, 1, 2 ** 32, [0, 2], [0xffffffff, 0xffffffff]] as const;
    const all = await Promise.all(seeds.map(async (seed) => (await fill('f32', [16], { seed })).data));
    for (const [i, one] of all.entries()) {
      for (const other of all.slice(i + 1)) expect(one.some((value, at) => value === other[at])).toBe(false);
    }
  });

  it('takes any number of rows below the largest', async () => {
    const recording = new Record(device.capabilities);
    const out = recording.external('out', 'f32', [namedSize('rows', 7), 6], 8);
    fillNormal(recording, { out }, { seed: 11 });
    const plan = await executor.compile(recording);
    const tensor = device.upload('out', poisoned('f32', [7, 6], 8));
    plan.bind({ out: tensor }).submit({ rows: 4 });
    const words = new Uint32Array((await device.read(tensor)).data.buffer);
    const floats = new Float32Array(words.buffer);
    const found = Array.from({ length: 24 }, (_, i) => floats[Math.floor(i / 6) * 8 + (i % 6)] ?? NaN);
    expectClose(found, reference({ count: 24, seed: [11, 0] }), TOLERANCE.f32);
    expect(words.subarray(4 * 8).every((word) => word === POISON)).toBe(true);
    tensor.dispose();
    plan.dispose();
  });

  it('is the same over a grid of two dimensions', async () => {
    const counts: unknown[] = [];
    const folded = (recording: Recording, { out }: { out: TensorRef }): TensorRef => {
      fillNormal(recording, { out }, { seed: 4 });
      const [dispatch] = recording.dispatches;
      if (dispatch !== undefined) recording.dispatches[0] = { ...dispatch, workgroups: [2, 3, 1] };
      counts.push(dispatch?.workgroups);
      return out;
    };
    // Five workgroups of 64 loads; the sixth has nothing to do.
    const { data } = await run(device, folded, { out: poisoned('f32', [1280], 1280) }, undefined, { executor });
    expectClose(data, reference({ count: 1280, seed: [4, 0] }), TOLERANCE.f32);
    expect(counts).toEqual([[5, 1, 1]]);
  });

  it('folds grids of more than 65,535 workgroups', () => {
    const dispatched = (shape: readonly number[], dtype: Plain): readonly unknown[] => {
      const recording = new Record(BASELINE_CAPABILITIES);
      fillNormal(recording, { out: recording.external('out', dtype, shape) }, { seed: 0 });
      return recording.dispatches.flatMap(({ workgroups, params }) => [workgroups, params['width'], params['loads']]);
    };
    // Rows without gaps are one row. 64 loads of 8 values a workgroup.
    expect(dispatched([2 ** 20 - 1, 2 ** 12], 'f16')).toEqual([[65_535, 129, 1], 2 ** 32 - 2 ** 12, 2 ** 29 - 2 ** 9]);
    expect(dispatched([65_535 * 64, 4], 'f32')).toEqual([[65_535, 1, 1], 65_535 * 256, 65_535 * 64]);
    expect(dispatched([65_535 * 64 + 1, 4], 'f32')).toEqual([[65_535, 2, 1], 65_535 * 256 + 4, 65_535 * 64 + 1]);
  });
});

describe('fillNormal refuses', () => {
  const attempt = (out: HostTensor, options: Partial<FillNormalOptions> = {}): Promise<unknown> =>
    run(device, fillNormal, { out }, { seed: 0, ...options });
  const plain = poisoned('f32', [2, 8], 8);

  it('options that are none', async () => {
    for (const seed of [-1, 0.5, NaN, 2 ** 53, [0, 2 ** 32], [-1, 0]] as const) {
      await expect(attempt(plain, { seed })).rejects.toThrow(ArgumentError);
    }
    for (const first of [-1, 0.5, NaN, 2 ** 53]) await expect(attempt(plain, { first })).rejects.toThrow("'first'");
    for (const scale of [-1, NaN, Infinity]) await expect(attempt(plain, { scale })).rejects.toThrow("'scale'");
    await expect(attempt(plain, { offset: NaN })).rejects.toThrow("'offset'");
  });

  it.each(['q8', 'q4'] as const)('means and deviations that no block of %s has', async (dtype) => {
    const out = poisoned(dtype, [2, 64], 64);
    await expect(attempt(out, { offset: 1 })).rejects.toThrow(ArgumentError);
    for (const scale of [1e-7, 1e9]) await expect(attempt(out, { scale })).rejects.toThrow('f16');
  });

  it('dtypes and places that it cannot write to', async () => {
    await expect(attempt({ ...plain, dtype: 'u32' })).rejects.toThrow(ShapeError);
    const part = (kernel: (out: TensorRef) => TensorRef, dtype: Dtype): Promise<unknown> => {
      const body = (recording: Recording, { out }: { out: TensorRef }): TensorRef =>
        fillNormal(recording, { out: kernel(out) }, { seed: 0 });
      return run(device, body, { out: poisoned(dtype, [4, 64], 64) }, undefined);
    };
    await expect(part((out) => columns(out, 1, 9), 'f16')).rejects.toThrow('whole word');
    await expect(part((out) => rowsOf(out, 0, 2), 'q8')).rejects.toThrow('part of a matrix');
    await expect(part((out) => rowsOf(out, 2, 2), 'q4')).rejects.toThrow('part of a matrix');
    await expect(part((out) => columns(out, 0, 32), 'q8')).rejects.toThrow('part of a matrix');
    const recording = new Record(BASELINE_CAPABILITIES);
    const large = recording.external('large', 'f16', [2 ** 20, 2 ** 12]);
    expect(() => fillNormal(recording, { out: large }, { seed: 0 })).toThrow('shaders count up to 4294967295');
  });
});
