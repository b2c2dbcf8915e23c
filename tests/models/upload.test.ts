import type { HostTensor, Tensor } from '@mambalab/kernels';
import { fromBfloatBits, fromHalfBits, IntegrityError, packMatrix, storagePlanes, toHalfBits } from '@mambalab/kernels';
import { createRandomModel, openSafetensors, writeSafetensors } from '@mambalab/models';
import type { PlannedWeight, TensorSource } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { randomWeights } from '../../packages/models/src/weights/random_weights.ts';
import { uploadWeights } from '../../packages/models/src/weights/upload.ts';
import { plannedBytes, transformedPieces } from '../../packages/models/src/weights/weight_pieces.ts';
import type { StoredTensor } from '../support/checkpoints.ts';
import { fileInMemory, floats } from '../support/checkpoints.ts';
import { openTestDevice } from '../support/gpu.ts';
import { Random } from '../support/numbers.ts';

const device = await openTestDevice();

const sourceOf = (...tensors: readonly StoredTensor[]): Promise<TensorSource> =>
  openSafetensors(fileInMemory('model.safetensors', writeSafetensors(tensors)));

type Plain = 'f32' | 'f16' | 'bf16';
type Dtype = Plain | 'q8' | 'q4';

const matrix = (
  dtype: Dtype,
  shape: readonly [number, number],
  ...parts: readonly (readonly [string, number])[]
): PlannedWeight => ({
  dtype,
  spec: {
    name: 'layers.0.0.matrix',
    kind: 'matrix',
    shape,
    sources: parts.map(([name, rows]) => ({ name, shape: [rows, shape[1]] })),
  },
});

const vector = (name: string, ...sources: readonly (readonly [string, readonly number[]])[]): PlannedWeight => ({
  dtype: 'f32',
  spec: {
    name,
    kind: 'vector',
    shape: [sources.reduce((sum, [, [length = 0]]) => sum + length, 0)],
    sources: sources.map(([source, shape]) => ({ name: source, shape })),
  },
});

/** All values of a tensor as numbers, padding included. */
async function valuesOf(tensor: Tensor | undefined): Promise<number[]> {
  if (tensor === undefined) throw new Error('the tensor is missing');
  const { data, dtype } = await device.read(tensor);
  if (dtype === 'f32') return [...data];
  const halves = [...new Uint16Array(data.buffer)];
  return halves.map((half) => (dtype === 'f16' ? fromHalfBits(half) : fromBfloatBits(half)));
}

async function uploaded(plan: PlannedWeight, source: TensorSource): Promise<number[]> {
  const tensors = await uploadWeights(device, [plan], transformedPieces([plan], source));
  try {
    return await valuesOf(tensors.get(plan.spec.name));
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
}

const counting = (count: number, from = 1): number[] => Array.from({ length: count }, (_, index) => from + index);

describe('uploadWeights', () => {
  it.each<Plain>(['f32', 'f16', 'bf16'])('joins parts by rows and pads each row with zeros in %s', async (dtype) => {
    const source = await sourceOf(floats('a', [1, 5], counting(5)), floats('b', [2, 5], counting(10, 6)));
    const values = await uploaded(matrix(dtype, [3, 5], ['a', 1], ['b', 2]), source);
    const row = (from: number): number[] => [...counting(5, from), 0, 0, 0];
    expect(values).toEqual([...row(1), ...row(6), ...row(11)]);
  });

  it('stores rows of whole words without padding', async () => {
    const source = await sourceOf(floats('a', [2, 8], counting(16)));
    expect(await uploaded(matrix('f16', [2, 8], ['a', 2]), source)).toEqual(counting(16));
  });

  it('passes bf16 on bit by bit, and widens it where f32 is asked for', async () => {
    const bits = Uint16Array.of(0x3f80, 0xc000, 0x0001, 0x7f7f, 0x8000, 0x3f81, 0x4049, 0x0080);
    const source = await sourceOf({ name: 'a', dtype: 'BF16', shape: [1, 8], bytes: new Uint8Array(bits.buffer) });
    const expected = [...bits].map(fromBfloatBits);
    expect(await uploaded(matrix('bf16', [1, 8], ['a', 1]), source)).toEqual(expected);
    expect(await uploaded(matrix('f32', [1, 8], ['a', 1]), source)).toEqual(expected);
  });

  it('turns A_log into A = -exp(A_log)', async () => {
    const plan = vector('layers.0.0.A', ['A_log', [3]]);
    const source = await sourceOf(floats('A_log', [3], [0, 1, -2]));
    const values = await uploaded({ ...plan, spec: { ...plan.spec, transform: 'negativeExp' } }, source);
    expect(values.slice(0, 3)).toEqual([-1, Math.fround(-Math.E), Math.fround(-Math.exp(-2))]);
  });

  it('joins vectors of unequal lengths, whatever the quotient of their lengths', async () => {
    // 7 of 25 is no binary fraction: places must be counted in values.
    for (const [query, key] of [
      [7, 9],
      [3, 46],
      [29, 10],
      [1, 48],
    ] as const) {
      const total = query + 2 * key;
      const source = await sourceOf(
        floats('q', [query], counting(query)),
        floats('k', [key], counting(key, query + 1)),
        floats('v', [key], counting(key, query + key + 1)),
      );
      const values = await uploaded(vector('layers.0.0.qkvBias', ['q', [query]], ['k', [key]], ['v', [key]]), source);
      expect(values.slice(0, total)).toEqual(counting(total));
    }
  });

  it('reads a matrix larger than a block in several, and counts the bytes', async () => {
    // 17 MiB of float32: one block and a part.
    const rows = 17 * 1024;
    const values = Float32Array.from({ length: rows * 256 }, (_, index) => index % 8191);
    const source = await sourceOf(floats('a', [rows, 256], values));
    const plan = [matrix('f32', [rows, 256], ['a', rows])];
    const seen: number[] = [];
    const tensors = await uploadWeights(device, plan, transformedPieces(plan, source), {
      onBytes: (bytes) => seen.push(bytes),
    });
    const data = await valuesOf(tensors.get('layers.0.0.matrix'));
    for (const tensor of tensors.values()) tensor.dispose();
    expect(data.findIndex((value, index) => value !== values[index])).toBe(-1);
    expect(seen).toEqual([16 * 2 ** 20, 17 * 2 ** 20]);
    expect(plannedBytes(plan, source)).toBe(17 * 2 ** 20);
  });

  /** The GPU has exactly the words of a packed matrix, and zeros behind them. */
  async function expectStored(plan: PlannedWeight, source: TensorSource, expected: HostTensor): Promise<void> {
    const tensors = await uploadWeights(device, [plan], transformedPieces([plan], source));
    try {
      const tensor = tensors.get(plan.spec.name);
      if (tensor === undefined) throw new Error('the tensor is missing');
      const { data } = await device.read(tensor);
      const words = new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4);
      const { length } = expected.data;
      expect(words.subarray(0, length)).toEqual(new Uint32Array(expected.data.buffer));
      expect(words.subarray(length).every((word) => word === 0)).toBe(true);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  // Values of one block and a bit: two blocks a row, or three.
  it.each<[Dtype, number]>([
    ['f32', 37],
    ['f16', 37],
    ['bf16', 37],
    ['q8', 37],
    ['q4', 37],
    ['q8', 70],
    ['q4', 70],
    ['q8', 1],
    ['q4', 32],
  ])('stores ranges, columns and factors as %s, %i values a row, as if they were one matrix', async (dtype, width) => {
    const random = new Random(width);
    const [turns, columns, tail] = [6, 2, 1].map((rows) => random.normals(rows * width, 3));
    if (turns === undefined || columns === undefined || tail === undefined) throw new Error('no values');
    const transposed = Array.from({ length: 2 * width }, (_, i) => columns[(i % 2) * width + Math.floor(i / 2)] ?? NaN);
    const source = await sourceOf(
      floats('turns', [6, width], turns),
      floats('columns', [width, 2], transposed),
      floats('tail', [1, width], tail),
    );
    const row = (values: Float32Array, index: number): Float32Array =>
      values.subarray(index * width, (index + 1) * width);
    // Parts of three, two, three and one rows: all but the first begin in the middle of a word of scales, where a row
    // has an odd number of blocks.
    const spec: PlannedWeight['spec'] = {
      name: 'layers.0.0.matrix',
      kind: 'matrix',
      shape: [9, width],
      sources: [
        { name: 'turns', shape: [6, width], ranges: [0, 2, 4].map((first) => ({ first, count: 1 })) },
        { name: 'columns', shape: [width, 2], transposed: true, scale: 0.3 },
        { name: 'turns', shape: [6, width], ranges: [1, 3, 5].map((first) => ({ first, count: 1 })) },
        { name: 'tail', shape: [1, width] },
      ],
    };
    // A factor of blocks is one of their scales: what is stored in blocks already has the same quants.
    const isBlocks = dtype === 'q8' || dtype === 'q4';
    const expected = packMatrix(
      Float32Array.of(
        ...[0, 2, 4].flatMap((index) => [...row(turns, index)]),
        ...columns.map((value) => (isBlocks ? value : value * 0.3)),
        ...[1, 3, 5].flatMap((index) => [...row(turns, index)]),
        ...tail,
      ),
      [9, width],
      dtype,
    );
    if (isBlocks) {
      const { data, rowStride = 0 } = expected;
      const blocks = rowStride / 32;
      const [, plane] = storagePlanes(dtype, 9, rowStride);
      const scales = new Uint16Array(data.buffer, plane?.byteOffset, 9 * blocks).subarray(3 * blocks, 5 * blocks);
      scales.set(scales.map((bits) => toHalfBits(fromHalfBits(bits) * 0.3)));
    }
    await expectStored({ dtype, spec }, source, expected);
  });

  it.each(['q8', 'q4'] as const)('stores the experts of a layer in %s one after another', async (dtype) => {
    const values = new Random(5).normals(2 * 3 * 40);
    const source = await sourceOf(floats('first', [3, 40], values.subarray(0, 120)), floats('all', [2, 3, 40], values));
    const plan: PlannedWeight = {
      dtype,
      spec: {
        name: 'layers.0.0.experts',
        kind: 'matrix',
        shape: [2, 3, 40],
        sources: [
          { name: 'first', shape: [3, 40] },
          { name: 'all', shape: [2, 3, 40], ranges: [{ first: 3, count: 3 }] },
        ],
      },
    };
    await expectStored(plan, source, packMatrix(values, [6, 40], dtype));
  });

  it('multiplies biases', async () => {
    const source = await sourceOf(floats('a', [3], [1, 2, 3]), floats('b', [4], [4, 5, 6, 7]));
    const spec: PlannedWeight['spec'] = {
      name: 'layers.0.0.inBias',
      kind: 'vector',
      shape: [5],
      sources: [
        { name: 'a', shape: [3], scale: 2 },
        { name: 'b', shape: [4], scale: -1, ranges: [{ first: 2, count: 2 }] },
      ],
    };
    expect((await uploaded({ dtype: 'f32', spec }, source)).slice(0, 5)).toEqual([2, 4, 6, -6, -7]);
  });

  const good = floats('good', [2, 8], counting(16));
  const plans = (dtype: Dtype): PlannedWeight[] => [
    { ...matrix(dtype, [2, 8], ['good', 2]), spec: { ...matrix(dtype, [2, 8], ['good', 2]).spec, name: 'first' } },
    matrix(dtype, [2, 8], ['bad', 2]),
  ];

  it.each<[string, Dtype, number, string]>([
    ['NaN in f32', 'f32', NaN, 'NaN or infinite'],
    ['NaN in f16', 'f16', NaN, 'NaN or infinite'],
    ['NaN in bf16', 'bf16', NaN, 'NaN or infinite'],
    ['infinity in f32', 'f32', -Infinity, 'NaN or infinite'],
    ['infinity in f16', 'f16', Infinity, 'NaN or infinite'],
    ['NaN in q8', 'q8', NaN, 'NaN or infinite'],
    ['infinity in q4', 'q4', Infinity, 'NaN or infinite'],
    ['an overflow of f16', 'f16', 1e5, 'beyond the range of f16'],
    ['an overflow of bf16', 'bf16', 3.4e38, 'beyond the range of bf16'],
    ['a scale beyond f16 in q8', 'q8', 1e7, 'too large for q8'],
    ['a scale beyond f16 in q4', 'q4', -1e6, 'too large for q4'],
  ])('refuses %s, names the tensor and frees everything', async (_name, dtype, value, reason) => {
    const bad = counting(16);
    bad[11] = value;
    const source = await sourceOf(good, floats('bad', [2, 8], bad));
    const before = device.allocatedBytes;
    const error: unknown = await uploadWeights(device, plans(dtype), transformedPieces(plans(dtype), source)).catch(
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(IntegrityError);
    expect(String(error)).toMatch(/alues of 'bad'/);
    expect(String(error)).toContain(reason);
    expect(device.allocatedBytes).toBe(before);
  });

  it('stops between blocks when the signal aborts, and frees everything', async () => {
    const source = await sourceOf(good, floats('bad', [2, 8], counting(16)));
    const abort = new AbortController();
    const reason = new Error('no longer needed');
    const before = device.allocatedBytes;
    const upload = uploadWeights(device, plans('f32'), transformedPieces(plans('f32'), source), {
      signal: abort.signal,
      onBytes: () => abort.abort(reason),
    });
    await expect(upload).rejects.toBe(reason);
    expect(device.allocatedBytes).toBe(before);
  });
});

it('random weights are finite, of the variance that a layer keeps, and the same for the same seed', async () => {
  const second = { ...matrix('f16', [4, 64], ['a', 4]), spec: { ...matrix('f16', [4, 64]).spec, name: 'second' } };
  const plan = [
    matrix('f16', [4, 64], ['a', 4]),
    second,
    vector('layers.0.0.A', ['A_log', [4]]),
    vector('layers.0.0.norm', ['norm', [3]]),
  ];
  const make = async (seed: number): Promise<number[][]> => {
    const tensors = await randomWeights(device, plan, seed);
    const values = await Promise.all([...tensors.values()].map(valuesOf));
    for (const tensor of tensors.values()) tensor.dispose();
    return values;
  };
  const before = device.allocatedBytes;
  const [first, again, other] = [await make(1), await make(1), await make(2)];
  expect(first).toEqual(again);
  expect(first).not.toEqual(other);
  expect(first.flat().every(Number.isFinite)).toBe(true);
  const [one = [], two = [], decays, norm] = first;
  expect(one).not.toEqual(two);
  const square = [...one, ...two].reduce((sum, value) => sum + value ** 2, 0) / 512;
  expect(square * 64).toBeGreaterThan(0.8);
  expect(square * 64).toBeLessThan(1.2);
  expect(decays?.every((decay) => decay <= -1)).toBe(true);
  expect(norm?.slice(0, 3)).toEqual([1, 1, 1]);
  expect(device.allocatedBytes).toBe(before);
});

it('a model with random quantized weights writes finite logits, the same for the same seed', async () => {
  const config = {
    model_type: 'nemotron_h',
    vocab_size: 64,
    hidden_size: 32,
    hybrid_override_pattern: 'M-',
    intermediate_size: 64,
    n_groups: 2,
    ssm_state_size: 16,
    mamba_num_heads: 4,
    mamba_head_dim: 16,
  };
  const logits: Float32Array[] = [];
  for (const seed of [1, 1, 2]) {
    using model = await createRandomModel(config, { device, dtype: 'q4', seed });
    logits.push(await model.logits([3, 1, 4, 1, 5]));
  }
  const [first, again, other] = logits;
  expect(first).toEqual(again);
  expect(first).not.toEqual(other);
  expect(first?.every(Number.isFinite)).toBe(true);
  expect(Math.max(...(first ?? []))).toBeGreaterThan(0.1);
});
