import {
  ArgumentError,
  attentionStep,
  columns,
  Executor,
  flashAttention,
  namedSize,
  Recording,
  reshape,
  rope,
  ropeAppend,
  ropeInverseFrequencies,
  run,
  ShapeError,
} from '@mambalab/kernels';
import type { HostTensor, RopeAppendInputs, Tensor, TensorRef } from '@mambalab/kernels';
import { attention as attentionReference, rope as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, readValues } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// Rounded angles of at most 40 radians are wrong by 2e-6; an f16 cache adds half a unit in its last place, or a whole
// one where the driver truncates.
const TOLERANCE = { f32: { rtol: 5e-6, atol: 5e-6 }, f16: { rtol: 1e-3, atol: 5e-6 } };

const SENTINEL = 7;

/** Everything that the kernel writes, as tensors that come back. */
function appended(
  recording: Recording,
  inputs: RopeAppendInputs,
  options: { interleaved?: boolean },
): Record<'rotated' | 'keyCache' | 'valueCache', TensorRef> {
  const rotated = ropeAppend(recording, inputs, options);
  return { rotated, keyCache: inputs.keyCache, valueCache: inputs.valueCache };
}

/** Values that f16 holds exactly: a copy must keep every bit of them. */
const exactHalves = (random: Random, shape: readonly number[]): HostTensor & { data: Float32Array } => {
  const tensor = normalTensor(random, shape);
  return { ...tensor, data: tensor.data.map((value) => Math.round(value * 64) / 64) };
};

describe.each(['f32', 'f16'] as const)('ropeAppend to a %s cache', (cache) => {
  it.each([
    { length: 1, heads: 4, kvHeads: 2, headDim: 8, rotaryDim: 8, positions: [3], interleaved: false },
    { length: 1, heads: 6, kvHeads: 1, headDim: 16, rotaryDim: 0, positions: [0, 9], interleaved: false },
    { length: 7, heads: 3, kvHeads: 3, headDim: 10, rotaryDim: 6, positions: [0, 5], interleaved: false },
    { length: 9, heads: 2, kvHeads: 1, headDim: 64, rotaryDim: 32, positions: [30, 8, 0], interleaved: true },
    { length: 19, heads: 5, kvHeads: 5, headDim: 8, rotaryDim: 8, positions: [21], interleaved: true },
  ])('rotates and appends %o', async ({ length, heads, kvHeads, headDim, rotaryDim, positions, interleaved }) => {
    const random = new Random(headDim + length);
    const batch = positions.length;
    const capacity = 36;
    const width = kvHeads * headDim;
    const q = normalTensor(random, [batch, length, heads, headDim]);
    const k = normalTensor(random, [batch, length, kvHeads, headDim]);
    const v = exactHalves(random, [batch, length, kvHeads, headDim]);
    const empty = cacheTensor(
      new Float32Array(batch * capacity * width).fill(SENTINEL),
      [batch, capacity, kvHeads, headDim],
      cache,
    );
    const frequencies = rotaryDim === 0 ? undefined : ropeInverseFrequencies({ theta: 10_000, rotaryDim });
    const inputs = {
      q,
      k,
      v,
      position: { data: Uint32Array.from(positions), shape: [batch], dtype: 'u32' as const },
      keyCache: empty.host,
      valueCache: empty.host,
      ...(frequencies === undefined
        ? {}
        : { inverseFrequencies: { data: frequencies, shape: [rotaryDim / 2], dtype: 'f32' as const } }),
    };
    const found = await run(device, appended, inputs, { interleaved }, { executor });
    const keys = readValues(found.keyCache, batch * capacity * width);
    const values = readValues(found.valueCache, batch * capacity * width);
    for (const [b, start] of positions.entries()) {
      const turned = (x: Float32Array, count: number): Float64Array => {
        const part = x.subarray(b * length * count * headDim, (b + 1) * length * count * headDim);
        if (frequencies === undefined) return Float64Array.from(part);
        const shape = { batch: 1, length, heads: count, headDim, rotaryDim, start };
        return reference({ x: part }, { ...shape, inverseFrequencies: frequencies, interleaved });
      };
      const row = heads * headDim;
      expectClose(
        found.rotated.data.subarray(b * length * row, (b + 1) * length * row),
        turned(q.data, heads),
        TOLERANCE.f32,
      );
      // Tokens that fall beyond the capacity are dropped, and no other row is touched.
      const kept = Math.min(length, capacity - start);
      const at = (r: number): number => (b * capacity + r) * width;
      expectClose(
        keys.subarray(at(start), at(start + kept)),
        turned(k.data, kvHeads).subarray(0, kept * width),
        TOLERANCE[cache],
      );
      expectSameBits(
        values.subarray(at(start), at(start + kept)),
        v.data.subarray(b * length * width, (b * length + kept) * width),
      );
      for (const data of [keys, values]) {
        const others = [...data.subarray(at(0), at(start)), ...data.subarray(at(start + kept), at(capacity))];
        expect(others.every((value) => value === SENTINEL)).toBe(true);
      }
    }
  });

  it('keeps what an f16 cache cannot hold finite, and an f32 cache exact', async () => {
    const large = { data: new Float32Array(8).fill(1e6), shape: [1, 1, 1, 8], dtype: 'f32' as const };
    const empty = cacheTensor(new Float32Array(8), [1, 1, 1, 8], cache).host;
    const position = { data: new Uint32Array(1), shape: [1], dtype: 'u32' as const };
    const inputs = { q: large, k: large, v: large, position, keyCache: empty, valueCache: empty };
    const found = await run(device, appended, inputs, {}, { executor });
    expect([...readValues(found.valueCache, 8)]).toEqual(
      Array.from({ length: 8 }, () => (cache === 'f16' ? 65504 : 1e6)),
    );
  });

  it('fills a cache from one projection, first a prompt and then token by token, and attends to it', async () => {
    const random = new Random(77);
    const [prompt, steps, heads, kvHeads, headDim, capacity] = [5, 4, 4, 2, 16, 12];
    const total = prompt + steps;
    const width = (heads + 2 * kvHeads) * headDim;
    const projection = random.normals(total * width);
    const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim: headDim });
    const record = (recording: Recording, length: ReturnType<typeof namedSize> | number): TensorRef => {
      const wide = recording.external('projection', 'f32', [length, width]);
      const view = (from: number, count: number): TensorRef =>
        reshape(columns(wide, from * headDim, (from + count) * headDim), [1, length, count, headDim]);
      const position = recording.external('position', 'u32', [1]);
      const keyCache = recording.external('keyCache', cache, [1, capacity, kvHeads, headDim]);
      const valueCache = recording.external('valueCache', cache, [1, capacity, kvHeads, headDim]);
      const inverseFrequencies = recording.external('inverseFrequencies', 'f32', [headDim / 2]);
      const inputs = { q: view(0, heads), k: view(heads, kvHeads), v: view(heads + kvHeads, kvHeads) };
      const q = ropeAppend(recording, { ...inputs, inverseFrequencies, position, keyCache, valueCache });
      return length === 1
        ? attentionStep(recording, { q: reshape(q, [1, heads, headDim]), k: keyCache, v: valueCache, position })
        : flashAttention(recording, { q, k: keyCache, v: valueCache, position });
    };
    const prefill = new Recording(device.capabilities);
    prefill.keep('y', record(prefill, namedSize('length', 8)));
    const decode = new Recording(device.capabilities);
    decode.keep('y', record(decode, 1));
    const [prefillPlan, decodePlan] = [await executor.compile(prefill), await executor.compile(decode)];

    const empty = cacheTensor(
      new Float32Array(capacity * kvHeads * headDim).fill(NaN),
      [1, capacity, kvHeads, headDim],
      cache,
    ).host;
    const shared = {
      position: device.createTensor('position', 'u32', [1]),
      keyCache: device.upload('keyCache', empty),
      valueCache: device.upload('valueCache', empty),
      inverseFrequencies: device.upload('inverseFrequencies', {
        data: frequencies,
        shape: [headDim / 2],
        dtype: 'f32',
      }),
    };
    const call = async (
      plan: typeof prefillPlan,
      begin: number,
      count: number,
      sizes: Record<string, number>,
    ): Promise<Float32Array> => {
      const rows: Tensor = device.createTensor('projection', 'f32', [plan === decodePlan ? 1 : 8, width]);
      device.gpu.queue.writeBuffer(rows.buffer, 0, projection.slice(begin * width, (begin + count) * width));
      device.gpu.queue.writeBuffer(shared.position.buffer, 0, Uint32Array.of(begin));
      plan.bind({ ...shared, projection: rows }).submit(sizes);
      const y = (await device.read(plan.output('y'))).data.slice(0, count * heads * headDim) as Float32Array;
      rows.dispose();
      return y;
    };
    const parts = [await call(prefillPlan, 0, prompt, { length: prompt })];
    for (let step = 0; step < steps; step++) parts.push(await call(decodePlan, prompt + step, 1, {}));

    const part = (from: number, count: number): Float32Array =>
      Float32Array.from({ length: total * count * headDim }, (_, i) => {
        const per = count * headDim;
        return projection[Math.floor(i / per) * width + from * headDim + (i % per)] ?? NaN;
      });
    const turned = (x: Float32Array, count: number): Float64Array =>
      reference({ x }, { batch: 1, length: total, heads: count, headDim, inverseFrequencies: frequencies });
    const stored = (values: ArrayLike<number>): Float32Array =>
      cacheTensor(Float32Array.from(values), [values.length], cache).values;
    const expected = attentionReference(
      {
        q: turned(part(0, heads), heads),
        k: stored(turned(part(heads, kvHeads), kvHeads)),
        v: stored(part(heads + kvHeads, kvHeads)),
      },
      { batch: 1, length: total, keyLength: total, heads, kvHeads, headDim, causal: true },
    );
    // A key whose last f16 bit rounds the other way moves a score by 1e-3.
    const tolerance = cache === 'f32' ? { rtol: 1e-5, atol: 1e-5 } : { rtol: 2e-3, atol: 2e-3 };
    expectClose(
      parts.flatMap((values) => [...values]),
      expected,
      tolerance,
    );
    prefillPlan.dispose();
    decodePlan.dispose();
    for (const tensor of Object.values(shared)) tensor.dispose();
  });
});

it('rotates as rope does, however far along', async () => {
  const random = new Random(5);
  const q = normalTensor(random, [2, 3, 4, 16]);
  const kv = normalTensor(random, [2, 3, 1, 16]);
  const position = { data: Uint32Array.of(99_999, 1_000_000), shape: [2], dtype: 'u32' as const };
  const inverseFrequencies = {
    data: ropeInverseFrequencies({ theta: 10_000, rotaryDim: 16 }),
    shape: [8],
    dtype: 'f32' as const,
  };
  const empty = normalTensor(random, [2, 4, 1, 16]);
  const inputs = { q, k: kv, v: kv, inverseFrequencies, position, keyCache: empty, valueCache: empty };
  const found = await run(device, appended, inputs, {}, { poison: true });
  const alone = await run(device, rope, { x: q, inverseFrequencies, position }, {}, { poison: true });
  expectClose(found.rotated.data, alone.data, { rtol: 1e-6, atol: 1e-6 });
  // Rows a million along fall outside the cache: nothing is written.
  expectSameBits(found.keyCache.data, empty.data);
});

it('refuses odd heads of a packed cache, and caches that disagree', async () => {
  const random = new Random(1);
  const attempt = (headDim: number, cacheShape: number[], dtypes: ['f32' | 'f16', 'f32' | 'f16']): Promise<unknown> => {
    const x = normalTensor(random, [1, 2, 1, headDim]);
    const values = new Float32Array(cacheShape.reduce((a, b) => a * b));
    const position = { data: new Uint32Array(1), shape: [1], dtype: 'u32' as const };
    const [keyCache, valueCache] = dtypes.map((dtype) => cacheTensor(values, cacheShape, dtype).host);
    if (keyCache === undefined || valueCache === undefined) throw new Error('two caches');
    return run(device, appended, { q: x, k: x, v: x, position, keyCache, valueCache }, {});
  };
  await expect(attempt(7, [1, 4, 1, 7], ['f32', 'f32'])).rejects.toThrow(ArgumentError);
  await expect(attempt(8, [1, 4, 2, 8], ['f32', 'f32'])).rejects.toThrow(ShapeError);
  await expect(attempt(8, [1, 4, 1, 8], ['f32', 'f16'])).rejects.toThrow(ShapeError);
});
