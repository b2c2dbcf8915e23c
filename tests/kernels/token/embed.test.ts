import type { Recording, TensorRef } from '@mambalab/kernels';
import {
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

it('refuses a table whose rows are not padded', async () => {
  const kernel = (recording: Recording, { tokens }: { tokens: TensorRef }): TensorRef =>
    embed(recording, { table: recording.external('table', 'f32', [4, 6]), tokens });
  const tokens = { data: new Uint32Array(1), shape: [1], dtype: 'u32' } as const;
  await expect(run(device, kernel, { tokens }, undefined)).rejects.toThrow(ShapeError);
});
