// What ropeAppend writes to caches of every kind: bit for bit what packCache gives, and nothing beside it.
import type { HostTensor, RopeAppendInputs, RopeAppendOptions, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  Executor,
  packCache,
  Recording,
  ropeAppend,
  ropeInverseFrequencies,
  run,
  ShapeError,
  unpackCache,
} from '@mambalab/kernels';
import { quantizeBlocks, ropeAppend as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, NO_PAGE, pagesFor, readValues } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// Rounded angles of at most 60 radians are wrong by 4e-6.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

function appended(
  recording: Recording,
  inputs: RopeAppendInputs,
  options: RopeAppendOptions,
): Record<'rotated' | 'keyCache' | 'valueCache', TensorRef> {
  const rotated = ropeAppend(recording, inputs, options);
  return { rotated, keyCache: inputs.keyCache, valueCache: inputs.valueCache };
}

const u32 = (...data: number[]): HostTensor => ({ data: Uint32Array.from(data), shape: [data.length], dtype: 'u32' });

/** Blocks whose scales are every kind of number, and values that lie between two quants. */
function awkward(random: Random, count: number): Float32Array {
  const values = random.normals(count);
  for (let block = 0; block < count / 32; block++) {
    const part = values.subarray(block * 32, block * 32 + 32);
    const factor = [1, 1e-3, 2e-4, 1e-6, 3e-8, 0, 3e4, 1e7][block % 8] ?? 1;
    for (const [i, value] of part.entries()) part[i] = value * factor;
    // The scale is 1 / 4 exactly, and every value is halfway between two of its multiples.
    if (block % 8 === 1) for (let i = 0; i < 32; i++) part[i] = i === 0 ? -31.75 : (i - 16) / 4 + 0.125;
  }
  return values;
}

describe('packCache', () => {
  it('gives what the reference gives, and unpackCache its values', () => {
    const values = awkward(new Random(1), 64 * 32);
    const found = unpackCache(packCache(values, [8, 4, 64], 'q8'));
    expectClose(found, quantizeBlocks({ x: values }), { rtol: 1e-15, atol: 1e-30 });
    for (const dtype of ['f32', 'f16'] as const) {
      const wide = packCache([1, -2.5, 1e6], [1, 3], dtype);
      expect([...unpackCache(wide)]).toEqual([1, -2.5, dtype === 'f16' ? 65504 : 1e6]);
    }
  });

  it('refuses values that do not fill the shape, or its blocks', () => {
    expect(() => packCache([1, 2], [3], 'f32')).toThrow(ShapeError);
    expect(() => packCache(new Float32Array(48), [1, 48], 'q8')).toThrow(ShapeError);
  });
});

describe.each(simdChoices(device))('ropeAppend %o', (force) => {
  it('quantises keys and values bit for bit, beside blocks of other tokens', async () => {
    // One block a token: two tokens share the word of their scales, also over the end of a call and of a sequence.
    const [batch, length, capacity, headDim] = [3, 4, 9, 32];
    const random = new Random(2);
    const size = batch * length * headDim;
    const x = (): HostTensor & { data: Float32Array } => ({
      data: awkward(random, size),
      shape: [batch, length, 1, headDim],
      dtype: 'f32',
    });
    const [k, v] = [x(), x()];
    const shape = [batch, capacity, 1, headDim];
    const before = random.normals(batch * capacity * headDim);
    const empty = packCache(before, shape, 'q8');
    const position = [3, 0, 7];
    const inputs = { q: k, k, v, position: u32(...position), keyCache: empty, valueCache: empty };
    const found = await run(device, appended, inputs, {}, { executor, force });
    for (const [name, rows] of [
      ['keyCache', k.data],
      ['valueCache', v.data],
    ] as const) {
      const values = before.slice();
      for (const [b, start] of position.entries()) {
        const kept = Math.min(length, capacity - start) * headDim;
        values.set(rows.subarray(b * length * headDim).subarray(0, kept), (b * capacity + start) * headDim);
      }
      expectSameBits(found[name].data, packCache(values, shape, 'q8').data);
    }
    expectSameBits(found.rotated.data, k.data);
  });

  it.each([
    { cache: 'f32', headDim: 16, rotaryDim: 8, pageSize: 1, interleaved: true, perHead: true },
    { cache: 'f16', headDim: 16, rotaryDim: 16, pageSize: 16, interleaved: false, perHead: false },
    { cache: 'q8', headDim: 96, rotaryDim: 32, pageSize: 16, interleaved: false, perHead: false },
  ] as const)('normalises, rotates and appends %o', async (sizes) => {
    const { cache, headDim, rotaryDim, pageSize, interleaved, perHead } = sizes;
    const [batch, length, heads, kvHeads, capacity] = [2, 9, 5, 2, 48];
    const random = new Random(headDim + pageSize);
    const positions = [30, 41];
    const q = normalTensor(random, [batch, length, heads, headDim], 3);
    const k = normalTensor(random, [batch, length, kvHeads, headDim], 2);
    const v = normalTensor(random, [batch, length, kvHeads, headDim]);
    const qWeight = normalTensor(random, perHead ? [heads, headDim] : [headDim]);
    const kWeight = normalTensor(random, perHead ? [kvHeads, headDim] : [headDim]);
    const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim });
    const inverseFrequencies = { data: frequencies, shape: [rotaryDim / 2], dtype: 'f32' as const };
    // The first sequence lacks the page of its last tokens: they are dropped.
    const paged = pagesFor(random, [32, 48], capacity, pageSize);
    const shape = [paged.pages, pageSize, kvHeads, headDim];
    const before = random.normals(shape.reduce((a, b) => a * b));
    const [keyCache, valueCache] = [cacheTensor(before, shape, cache), cacheTensor(before, shape, cache)];
    const options = { interleaved, eps: 1e-3, weightOffset: 1 };
    const given = { q, k, v, qWeight, kWeight, inverseFrequencies, pages: paged.table, position: u32(...positions) };
    const found = await run(
      device,
      appended,
      { ...given, keyCache: keyCache.host, valueCache: valueCache.host },
      options,
      { executor, force },
    );
    const expected = reference(
      {
        q: q.data,
        k: k.data,
        v: v.data,
        qWeight: qWeight.data,
        kWeight: kWeight.data,
        inverseFrequencies: frequencies,
        position: positions,
        keyCache: keyCache.values,
        valueCache: valueCache.values,
        pages: paged.table.data,
      },
      { batch, length, capacity, heads, kvHeads, headDim, pageSize, ...options, quantized: cache === 'q8' },
    );
    expect(paged.table.data).toContain(NO_PAGE);
    expectClose(found.rotated.data, expected.rotated, TOLERANCE);
    const values = (host: HostTensor): Float32Array =>
      cache === 'q8' ? unpackCache({ ...host, shape }) : readValues(host, before.length);
    // A key on the edge between two quants may fall to either side, and move the scale of its block by one unit.
    const coarse = { f32: TOLERANCE, f16: { rtol: 1e-3, atol: 1e-5 }, q8: { rtol: 1e-3, atol: 0.1 } }[cache];
    expectClose(values(found.keyCache), expected.keyCache, coarse);
    expectClose(values(found.valueCache), expected.valueCache, cache === 'f16' ? coarse : TOLERANCE);
    if (cache !== 'q8') return;
    const apart = values(found.keyCache).filter((value, i) => Math.abs(value - (expected.keyCache[i] ?? NaN)) > 1e-3);
    expect(apart.length / before.length).toBeLessThan(0.002);
  });
});

it('refuses weights, heads and pages that do not fit, before anything is recorded', () => {
  const attempt = (headDim: number, weight: number[], cacheShape: number[], dtype: 'f32' | 'q8' = 'f32'): Recording => {
    const recording = new Recording(device.capabilities);
    const x = recording.external('x', 'f32', [1, 2, 2, headDim]);
    const w = recording.external('w', 'f32', weight);
    const position = recording.external('position', 'u32', [1]);
    const keyCache = recording.external('keys', dtype, cacheShape);
    const valueCache = recording.external('values', dtype, cacheShape);
    const inputs = { q: x, k: x, v: x, qWeight: w, kWeight: w, position, keyCache, valueCache };
    try {
      ropeAppend(recording, inputs);
    } finally {
      expect(recording.dispatches.length === 0 || recording.dispatches.length === 2).toBe(true);
    }
    return recording;
  };
  expect(attempt(32, [32], [1, 4, 2, 32], 'q8').dispatches.length).toBe(2);
  expect(() => attempt(32, [16], [1, 4, 2, 32])).toThrow(ShapeError);
  expect(() => attempt(32, [3, 32], [1, 4, 2, 32])).toThrow(ShapeError);
  expect(() => attempt(258, [258], [1, 4, 2, 258])).toThrow(ArgumentError);
  expect(() => attempt(48, [48], [1, 4, 2, 48], 'q8')).toThrow(ArgumentError);
});
