import type { EmbedInputs, EmbedOptions, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  embed,
  Executor,
  fromBfloatBits,
  fromHalfBits,
  namedSize,
  packMatrix,
  Recording as NewRecording,
  run,
  ShapeError,
  toBfloatBits,
  toHalfBits,
  unpackMatrix,
} from '@mambalab/kernels';
import { embed as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const VOCAB = 37;
// A product and a sum.
const ONE_SUM = { rtol: 1e-6, atol: 1e-6 };
const ROUND = {
  f32: (value: number) => value,
  f16: (value: number) => fromHalfBits(toHalfBits(value)),
  bf16: (value: number) => fromBfloatBits(toBfloatBits(value)),
} as const;

describe.each(['f32', 'f16', 'bf16'] as const)('embed from %s', (dtype) => {
  it.each([
    // tokens, width
    [1, 1],
    [5, 3],
    [3, 4],
    [3, 5],
    [7, 8],
    [2, 12],
    [4, 511],
    [3, 520],
  ])('looks up %i rows of %i', async (rows, width) => {
    const random = new Random(rows * 1009 + width);
    const values = random.normals(VOCAB * width).map(ROUND[dtype]);
    const tokens = random.integers(rows, VOCAB);
    const inputs = {
      table: packMatrix(values, [VOCAB, width], dtype),
      tokens: { data: tokens, shape: [rows], dtype: 'u32' },
    } as const;
    const y = await run(device, embed, inputs, {}, { poison: true });
    const expected = reference({ table: values, tokens }, { rows, vocabulary: VOCAB, width });
    expect(y.shape).toEqual([rows, width]);
    expectSameBits(y.data, expected);
  });
});

describe.each(['q8', 'q4'] as const)('embed from %s', (dtype) => {
  it.each([
    [1, 1],
    [5, 33],
    [4, 520],
  ])('looks up %i rows of %i', async (rows, width) => {
    const random = new Random(rows * 1009 + width);
    const table = packMatrix(random.normals(VOCAB * width), [VOCAB, width], dtype);
    const tokens = random.integers(rows, VOCAB);
    const inputs = { table, tokens: { data: tokens, shape: [rows], dtype: 'u32' } } as const;
    const y = await run(device, embed, inputs, {}, { poison: true });
    const expected = reference({ table: unpackMatrix(table), tokens }, { rows, vocabulary: VOCAB, width });
    // A quant times its scale is exact in f32.
    expectClose(y.data, expected, { rtol: 0, atol: 1e-30 });
  });
});

it('scales, takes batches and gives zeros outside of the vocabulary', async () => {
  const values = new Random(3).normals(VOCAB * 8);
  const tokens = Uint32Array.from([0, VOCAB - 1, VOCAB, 0xffffffff, 5, 5]);
  const inputs = {
    table: packMatrix(values, [VOCAB, 8], 'f32'),
    tokens: { data: tokens, shape: [2, 3], dtype: 'u32' },
  } as const;
  const y = await run(device, embed, inputs, { scale: 3.5 }, { poison: true });
  const inside = [0, VOCAB - 1, 0, 0, 5, 5];
  const expected = reference({ table: values, tokens: inside }, { rows: 6, vocabulary: VOCAB, width: 8, scale: 3.5 });
  expected.fill(0, 2 * 8, 4 * 8);
  expect(y.shape).toEqual([2, 3, 8]);
  expectClose(y.data, expected, { rtol: 1e-6, atol: 1e-7 });
});

it('reads batches whose length is named from rows at their full length', async () => {
  const random = new Random(4);
  const width = 6;
  const values = random.normals(VOCAB * width);
  const recording = new NewRecording(device.capabilities);
  const length = namedSize('length', 10);
  const table = recording.external('table', 'f32', [VOCAB, width], 8);
  const y = embed(recording, { table, tokens: recording.external('tokens', 'u32', [2, length]) });
  recording.keep('y', y);
  using executor = new Executor(device, { poison: true });
  const plan = await executor.compile(recording);
  const tokens = random.integers(20, VOCAB);
  const uploaded = {
    table: device.upload('table', packMatrix(values, [VOCAB, width], 'f32')),
    tokens: device.upload('tokens', { data: tokens, shape: [2, 10], dtype: 'u32' }),
  };
  plan.bind(uploaded).submit({ length: 4 });
  const { data } = await device.read(plan.output('y'));
  for (const [row, token] of [...tokens.subarray(0, 4), ...tokens.subarray(10, 14)].entries()) {
    const expected = values.subarray(token * width, (token + 1) * width);
    expectSameBits(data.subarray(row * 8, row * 8 + width), expected);
  }
  // Nothing is written beyond the length of the run.
  expect(new Uint32Array(data.buffer).subarray(8 * 8).every((bits) => bits === 0xffffffff)).toBe(true);
  for (const tensor of Object.values(uploaded)) tensor.dispose();
});

const words = (data: Uint32Array, ...shape: number[]): HostTensor => ({ data, shape, dtype: 'u32' });

describe('learned positions', () => {
  const CAPACITY = 11;

  // Positions 9 to 11 and the last: both sides of the table's end.
  it.each([
    // shape of the tokens, positions, tokens of a sequence
    [[2, 3], [0, 9], 3],
    [[4, 1], [3, 10, 11, 0xffffffff], 1],
    [[5], [0], 5],
    [[5], [8], 5],
    [[3], [2, 10, 4], 1],
    [[1], [7], 1],
  ])('tokens %j after %j', async (shape, consumed, length) => {
    const random = new Random(shape.length * 31 + consumed.length);
    for (const width of [5, 8, 20]) {
      const rows = shape.reduce((product, size) => product * size, 1);
      const table = random.normals(VOCAB * width);
      const positions = random.normals(CAPACITY * width);
      const tokens = random.integers(rows, VOCAB);
      const inputs = {
        table: packMatrix(table, [VOCAB, width], 'f32'),
        tokens: words(tokens, ...shape),
        positions: packMatrix(positions, [CAPACITY, width], 'f32'),
        position: words(Uint32Array.from(consumed), consumed.length),
      };
      const y = await run(device, embed, inputs, { scale: 3 }, { poison: true });
      const options = { rows, vocabulary: VOCAB, width, scale: 3, length, capacity: CAPACITY };
      expect(y.shape).toEqual([...shape, width]);
      expectClose(y.data, reference({ table, tokens, positions, position: consumed }, options), ONE_SUM);
    }
  });

  it('count within a sequence whose length is named', async () => {
    const [most, width] = [10, 8];
    const random = new Random(12);
    const [table, positions] = [random.normals(VOCAB * width), random.normals(CAPACITY * width)];
    const tokens = random.integers(most, VOCAB);
    const recording = new NewRecording(device.capabilities);
    const refs = {
      table: recording.external('table', 'f32', [VOCAB, width]),
      tokens: recording.external('tokens', 'u32', [namedSize('length', most)]),
      positions: recording.external('positions', 'f32', [CAPACITY, width]),
      position: recording.external('position', 'u32', [1]),
    };
    recording.keep('y', embed(recording, refs));
    using executor = new Executor(device, { poison: true });
    const plan = await executor.compile(recording);
    const uploaded = {
      table: device.upload('table', packMatrix(table, [VOCAB, width], 'f32')),
      tokens: device.upload('tokens', words(tokens, most)),
      positions: device.upload('positions', packMatrix(positions, [CAPACITY, width], 'f32')),
      position: device.upload('position', words(Uint32Array.of(4), 1)),
    };
    const bound = plan.bind(uploaded);
    for (const rows of [1, 9]) {
      bound.submit({ length: rows });
      const { data } = await device.read(plan.output('y'));
      const inputs = { table, tokens: tokens.subarray(0, rows), positions, position: [4] };
      const expected = reference(inputs, { rows, vocabulary: VOCAB, width, capacity: CAPACITY });
      expectClose(data.subarray(0, rows * width), expected, ONE_SUM);
    }
    for (const tensor of Object.values(uploaded)) tensor.dispose();
  });
});

describe.each(['f32', 'f16', 'bf16', 'q8', 'q4'] as const)('a vocabulary in parts of %s', (dtype) => {
  // Tables of 1, 26 and 7 rows; what lies below 3 and from 37 on is in none of them.
  const STARTS = [3, 4, 30, 37];

  it.each([5, 12, 33])('writes rows of %i values, each from its table', async (width) => {
    const random = new Random(width);
    const tokens = Uint32Array.from([0, 2, 3, 4, 5, 29, 30, 31, 36, 37, 0xffffffff, 4]);
    const rows = tokens.length;
    const positions = random.normals(rows * width);
    const tables = STARTS.slice(0, -1).map((start, i) => {
      const count = (STARTS[i + 1] ?? 0) - start;
      return { start, count, packed: packMatrix(random.normals(count * width), [count, width], dtype) };
    });
    const kernel = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
      const { tokens, positions, position, ...parts } = inputs as { [name: string]: TensorRef } & Required<EmbedInputs>;
      let out: TensorRef | undefined;
      for (const { start } of tables) {
        const table = parts[`table${start}`] as TensorRef;
        const y = embed(recording, { table, tokens, positions, position, out }, { firstToken: start, scale: 0.5 });
        expect(y).toBe(out ?? y);
        out = y;
      }
      return out as TensorRef;
    };
    const inputs = {
      tokens: words(tokens, rows),
      positions: packMatrix(positions, [rows, width], 'f32'),
      position: words(Uint32Array.of(0), 1),
      ...Object.fromEntries(tables.map(({ start, packed }) => [`table${start}`, packed])),
    };
    const y = await run(device, kernel, inputs, undefined, { poison: true });
    let expected: Float64Array | undefined;
    for (const { start, count, packed } of tables) {
      const given = { table: unpackMatrix(packed), tokens, positions, position: [0], out: expected };
      const options = { rows, vocabulary: count, width, scale: 0.5, firstToken: start, capacity: rows };
      expected = reference(given, options);
    }
    expectClose(y.data, expected ?? [], ONE_SUM);
  });
});

it('leaves rows of other tokens as they are, in columns of a wider tensor too', async () => {
  const random = new Random(17);
  const table = random.normals(VOCAB * 8);
  const wide = { data: random.normals(3 * 20), shape: [3, 20], dtype: 'f32' } as const;
  const kernel = (
    recording: Recording,
    inputs: { table: TensorRef; tokens: TensorRef; wide: TensorRef },
  ): TensorRef => {
    const { table, tokens } = inputs;
    embed(recording, { table, tokens, out: columns(inputs.wide, 4, 12) }, { firstToken: 100 });
    return inputs.wide;
  };
  const inputs = {
    table: packMatrix(table, [VOCAB, 8], 'f32'),
    tokens: words(Uint32Array.of(99, 100, 99 + VOCAB), 3),
    wide,
  };
  const { data } = await run(device, kernel, inputs, undefined);
  const expected = wide.data.slice();
  expected.set(table.subarray(0, 8), 20 + 4);
  expected.set(table.subarray((VOCAB - 1) * 8), 40 + 4);
  expectSameBits(data, expected);
});

describe('refuses', () => {
  const tokens = words(new Uint32Array(2), 2);
  const matrix = (rows: number, width: number): HostTensor =>
    packMatrix(new Float32Array(rows * width), [rows, width], 'f32');
  const attempt = (inputs: { [name: string]: HostTensor }, options: EmbedOptions = {}): Promise<unknown> =>
    run(device, embed, { table: matrix(4, 6), tokens, ...inputs }, options);

  it('positions without a place in the sequence, or of another shape', async () => {
    const position = words(new Uint32Array(1), 1);
    await expect(attempt({ positions: matrix(9, 6) })).rejects.toThrow(ArgumentError);
    await expect(attempt({ position })).rejects.toThrow(ArgumentError);
    await expect(attempt({ positions: matrix(9, 5), position })).rejects.toThrow(ShapeError);
    await expect(attempt({ positions: packMatrix(new Float32Array(54), [9, 6], 'f16'), position })).rejects.toThrow(
      "'positions' must be f32",
    );
    const three = words(new Uint32Array(3), 3);
    await expect(attempt({ positions: matrix(9, 6), position: three })).rejects.toThrow(ShapeError);
    const batch = words(new Uint32Array(6), 2, 3);
    await expect(attempt({ tokens: batch, positions: matrix(9, 6), position })).rejects.toThrow(ShapeError);
  });

  it('a first token that is none, and outputs that do not fit', async () => {
    for (const firstToken of [-1, 0.5, NaN, 2 ** 32 - 3]) {
      await expect(attempt({}, { firstToken })).rejects.toThrow(ArgumentError);
    }
    await expect(attempt({ out: matrix(3, 6) })).rejects.toThrow(ShapeError);
    const close = { data: new Float32Array(12), shape: [2, 6], dtype: 'f32' } as const;
    await expect(attempt({ out: close })).rejects.toThrow("rows of 'out' lie 6 values apart");
    await expect(attempt({ out: { ...matrix(2, 6), dtype: 'u32' } })).rejects.toThrow(ShapeError);
    const wide = (recording: Recording, inputs: { table: TensorRef; tokens: TensorRef; wide: TensorRef }): TensorRef =>
      embed(recording, { ...inputs, out: columns(inputs.wide, 0, 6) });
    const given = { table: matrix(4, 6), tokens, wide: matrix(2, 16) };
    await expect(run(device, wide, given, undefined)).rejects.toThrow('padded to 8');
  });

  it('a table whose rows are not padded', async () => {
    const kernel = (recording: Recording, { tokens }: { tokens: TensorRef }): TensorRef =>
      embed(recording, { table: recording.external('table', 'f32', [4, 6]), tokens });
    await expect(run(device, kernel, { tokens }, undefined)).rejects.toThrow(ShapeError);
  });
});
