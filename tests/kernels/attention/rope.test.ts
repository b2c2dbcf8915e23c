import {
  ArgumentError,
  columns,
  Executor,
  namedSize,
  Recording,
  reshape,
  rope,
  ropeInverseFrequencies,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { rope as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });

// Two products and a sum of values that are at most about 4, with sines that are wrong by 1e-7 at most.
const TOLERANCE = { rtol: 1e-6, atol: 1e-6 };

/** Angles as the kernel forms them: a product rounded to f32, like PyTorch's. */
function expected(
  x: Float32Array,
  shape: { batch: number; length: number; heads: number; headDim: number },
  frequencies: Float32Array,
  positions: readonly number[],
  interleaved: boolean,
): Float64Array {
  const { batch, length, heads, headDim } = shape;
  const out = new Float64Array(x.length);
  const row = heads * headDim;
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      const at = (b * length + l) * row;
      // One token at position 1 whose frequencies are the angles.
      const inverseFrequencies = frequencies.map((f) => Math.fround((positions[b] ?? 0) + l) * f);
      out.set(
        reference(
          { x: x.subarray(at, at + row) },
          {
            batch: 1,
            length: 1,
            heads,
            headDim,
            start: 1,
            rotaryDim: 2 * frequencies.length,
            inverseFrequencies,
            interleaved,
          },
        ),
        at,
      );
    }
  }
  return out;
}

describe.each([
  { interleaved: false, access: 'vector' },
  { interleaved: true, access: 'vector' },
  { interleaved: false, access: 'scalar' },
  { interleaved: true, access: 'scalar' },
])('rope %o', ({ interleaved, access }) => {
  it.each([
    [1, 21, 2, 8, 8, [0]],
    [2, 3, 5, 64, 64, [7, 99_998]],
    [1, 1, 1, 128, 128, [1_000_000]],
    // GPT-NeoX: a part of each head
    [3, 2, 4, 96, 32, [0, 1, 16_777_215]],
    [1, 17, 5, 12, 8, [100_000]],
    [1, 5, 3, 12, 6, [100_000]],
    [1, 2, 9, 256, 256, [524_287]],
  ])(
    'turns %i x %i tokens of %i heads of %i, %i of them rotary, from %o',
    async (batch, length, heads, headDim, rotaryDim, positions) => {
      const random = new Random(headDim * 31 + length);
      const x = normalTensor(random, [batch, length, heads, headDim]);
      const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim });
      const inputs = {
        x,
        inverseFrequencies: { data: frequencies, shape: [rotaryDim / 2], dtype: 'f32' as const },
        position: { data: Uint32Array.from(positions), shape: [batch], dtype: 'u32' as const },
      };
      const y = await run(device, rope, inputs, { interleaved }, { force: { access }, executor });
      expectClose(
        y.data,
        expected(x.data, { batch, length, heads, headDim }, frequencies, positions, interleaved),
        TOLERANCE,
      );
      expect(y.shape).toEqual([batch, length, heads, headDim]);
    },
  );
});

it.each(['vector', 'scalar'])('scales what rotates and nothing else: %s', async (access) => {
  const shape = { batch: 1, length: 3, heads: 2, headDim: 12 };
  const x = normalTensor(new Random(5), [1, 3, 2, 12]);
  const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim: 8 });
  const inputs = { x, inverseFrequencies: { data: frequencies, shape: [4], dtype: 'f32' as const } };
  const y = await run(device, rope, inputs, { scale: 1.25 }, { force: { access }, executor });
  const options = { ...shape, rotaryDim: 8, inverseFrequencies: frequencies, scale: 1.25 };
  expectClose(y.data, reference({ x: x.data }, options), TOLERANCE);
});

it('gives the same bits again and again', async () => {
  const x = normalTensor(new Random(5), [1, 33, 6, 64]);
  const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim: 32 });
  const inputs = { x, inverseFrequencies: { data: frequencies, shape: [16], dtype: 'f32' as const } };
  const first = await run(device, rope, inputs, {}, { executor });
  for (let i = 0; i < 5; i++) expectSameBits((await run(device, rope, inputs, {}, { executor })).data, first.data);
});

it('agrees with the reference from position 0 on when none is given', async () => {
  const shape = { batch: 1, length: 20, heads: 2, headDim: 16 };
  const x = normalTensor(new Random(4), [1, 20, 2, 16]);
  const frequencies = ropeInverseFrequencies({ theta: 500_000, rotaryDim: 16 });
  const inputs = { x, inverseFrequencies: { data: frequencies, shape: [8], dtype: 'f32' as const } };
  const y = await run(device, rope, inputs, {}, { executor });
  // The reference does not round its angles: at 20 they are wrong by 1e-6 at most.
  expectClose(y.data, reference({ x: x.data }, { ...shape, inverseFrequencies: frequencies }), {
    rtol: 5e-6,
    atol: 5e-6,
  });
});

it('has sines and cosines of every size of angle', async () => {
  const random = new Random(9);
  const angles = Float32Array.from({ length: 4096 }, (_, i) => {
    const size = i < 1024 ? 4 : i < 2048 ? 1e3 : i < 3072 ? 1e6 : 2 ** (64 * random.next());
    return Math.fround((random.next() * 2 - 1) * size);
  });
  // Near multiples of pi / 2, where a poor reduction has no digit left, and the ends of the range.
  for (let i = 0; i < 1000; i++) angles[i] = Math.fround((i - 500) * 997 * (Math.PI / 2));
  angles.set([0, -0, 0.785, 0.7853982, 0.78539824, 2 ** -40, 3.4028234e38, 16_777_216], 1000);
  const x = new Float32Array(8192).map((_, i) => (i < 4096 ? 1 : 0));
  const inputs = {
    x: { data: x, shape: [1, 1, 1, 8192], dtype: 'f32' as const },
    inverseFrequencies: { data: angles, shape: [4096], dtype: 'f32' as const },
    position: { data: Uint32Array.of(1), shape: [1], dtype: 'u32' as const },
  };
  const y = await run(device, rope, inputs, {}, { executor });
  const exact = [...angles].map((angle) => Math.cos(angle)).concat([...angles].map((angle) => Math.sin(angle)));
  expectClose(y.data, exact, { rtol: 0, atol: 1.5e-7 });
});

it.each([8, 10])('reads columns from %i on of a wide projection, of any length', async (start) => {
  const random = new Random(12);
  const wide = normalTensor(random, [6, 40]);
  const frequencies = ropeInverseFrequencies({ theta: 10_000, rotaryDim: 8 });
  const recording = new Recording(device.capabilities);
  const length = namedSize('length', 6);
  const projection = recording.external('projection', 'f32', [length, 40]);
  const x = reshape(columns(projection, start, start + 16), [1, length, 2, 8]);
  const inverseFrequencies = recording.external('inverseFrequencies', 'f32', [4]);
  recording.keep('y', rope(recording, { x, inverseFrequencies }));
  const plan = await executor.compile(recording);
  const tensors = {
    projection: device.upload('projection', wide),
    inverseFrequencies: device.upload('inverseFrequencies', { data: frequencies, shape: [4], dtype: 'f32' }),
  };
  const bound = plan.bind(tensors);
  for (const used of [6, 1, 4]) {
    bound.submit({ length: used });
    const y = await device.read(plan.output('y'));
    const rows = Float32Array.from(
      { length: used * 16 },
      (_, i) => wide.data[Math.floor(i / 16) * 40 + start + (i % 16)] ?? NaN,
    );
    const shape = { batch: 1, length: used, heads: 2, headDim: 8 };
    expectClose(y.data.subarray(0, used * 16), expected(rows, shape, frequencies, [0], false), TOLERANCE);
  }
  plan.dispose();
});

it('copies what does not rotate bit for bit', async () => {
  const x = normalTensor(new Random(3), [1, 2, 2, 8]);
  const inputs = { x, inverseFrequencies: { data: Float32Array.of(1, 0.1), shape: [2], dtype: 'f32' as const } };
  const y = await run(device, rope, inputs, {}, { executor });
  const rest = (data: ArrayLike<number>): number[] => Array.from(data).filter((_, i) => i % 8 >= 4);
  expectSameBits(rest(y.data), rest(x.data));
});

it('refuses odd heads, too many frequencies and positions of another shape', async () => {
  const random = new Random(1);
  const frequencies = (count: number) => ({ data: new Float32Array(count), shape: [count], dtype: 'f32' as const });
  const odd = { x: normalTensor(random, [1, 1, 1, 7]), inverseFrequencies: frequencies(2) };
  await expect(run(device, rope, odd, {})).rejects.toThrow(ArgumentError);
  const many = { x: normalTensor(random, [1, 1, 1, 8]), inverseFrequencies: frequencies(5) };
  await expect(run(device, rope, many, {})).rejects.toThrow(ArgumentError);
  const position = { data: new Uint32Array(2), shape: [2], dtype: 'u32' as const };
  const batch = { x: normalTensor(random, [1, 1, 1, 8]), inverseFrequencies: frequencies(4), position };
  await expect(run(device, rope, batch, {})).rejects.toThrow(ShapeError);
  const good = { x: normalTensor(random, [1, 1, 1, 8]), inverseFrequencies: frequencies(4) };
  await expect(run(device, rope, good, { scale: Infinity })).rejects.toThrow(ArgumentError);
});
