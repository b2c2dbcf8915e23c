import type { TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  matmul,
  namedSize,
  packMatrix,
  Recording,
  run,
  ShapeError,
  TILES,
} from '@mambalab/kernels';
import { matmul as reference, rmsNorm } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { hasLargeTiles, openMatrixDevice, openTestDevice } from '../../support/gpu.ts';
import { ACTIVATIONS, expectProduct, spacedRows, WEIGHT_DTYPES, weightMatrix } from '../../support/matrices.ts';
import { expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

// f32 sums in another order than the reference's: 1e-5 of the sum of magnitudes (see expectProduct).
const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const settings = { poison: true, executor };

describe.each(WEIGHT_DTYPES)('matmul with %s weights', (dtype) => {
  it.each([
    [1, 8, 1],
    [9, 20, 7],
    [16, 16, 64],
    [17, 17, 65],
    [33, 32, 63],
    [2, 172, 130],
    [64, 77, 77],
    [65, 40, 66],
    [83, 64, 2],
    [33, 193, 1],
  ])('multiplies %i rows of %i by %i outputs', async (rows, inner, outputs) => {
    const random = new Random(rows * 1009 + inner * 31 + outputs);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], dtype);
    const y = await run(device, matmul, { x, weight: weight.tensor }, {}, settings);
    expect(y.shape).toEqual([rows, outputs]);
    const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
    expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
  });

  it.each(Object.keys(TILES) as (keyof typeof TILES)[])('agrees in the tile %s', async (name) => {
    const [rows, inner, outputs] = [131, 40, 133];
    const random = new Random(name.length);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], dtype);
    const y = await run(device, matmul, { x, weight: weight.tensor }, { tile: TILES[name] }, settings);
    const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
    expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
  });
});

describe.each(['q8', 'q4'] as const)('matmul with %s weights', (dtype) => {
  it.each([
    [1, 32, 1],
    [17, 77, 65],
    [33, 33, 30],
  ])('multiplies %i rows of %i by %i outputs', async (rows, inner, outputs) => {
    const random = new Random(rows * 1009 + inner * 31 + outputs);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], dtype);
    const y = await run(device, matmul, { x, weight: weight.tensor }, {}, settings);
    const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
    expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
  });
});

describe('matmul with a norm', () => {
  it.each([
    ['16x64', 3, 40, 66, 'f16'],
    ['64x64', 65, 21, 3, 'f32'],
    ['128x128', 131, 37, 133, 'q4'],
  ] as const)('normalises x on the way in the tile %s', async (name, rows, inner, outputs, dtype) => {
    const random = new Random(rows);
    // Rows of different sizes, and NaN behind them.
    const x = normalTensor(random, [rows, inner]).data.map((value, i) => value * 2 ** (Math.floor(i / inner) % 5));
    const weight = weightMatrix(random, [outputs, inner], dtype);
    const normWeight = normalTensor(random, [inner]);
    const bias = normalTensor(random, [outputs]);
    const norm = { normEps: 0.01, normWeightOffset: rows % 2 };
    const options = { activation: 'silu', scale: 2, ...norm } as const;
    const inputs = { x: spacedRows(x, inner, inner + 4 - (inner % 4)), weight: weight.tensor, normWeight, bias };
    const y = await run(device, matmul, inputs, { ...options, tile: TILES[name] }, settings);
    const vectors = { normWeight: normWeight.data, bias: bias.data };
    const expected = reference({ x, weight: weight.values, ...vectors }, { rows, inner, outputs, ...options });
    const weightOffset = norm.normWeightOffset;
    const normalised = rmsNorm({ x, weight: normWeight.data }, { rows, width: inner, eps: 0.01, weightOffset });
    expectProduct(y.data, expected, { x: normalised, weight: weight.values, inner }, 'silu');
  });
});

it('gives several results of one wide matrix as views', async () => {
  const [rows, inner] = [9, 24];
  const random = new Random(29);
  const x = normalTensor(random, [rows, inner]);
  const wide = weightMatrix(random, [12, inner], 'f16');
  const last = weightMatrix(random, [3, 8], 'f32');
  // q and k and v of one product, of which the next one reads v where it lies.
  const split = (
    recording: Recording,
    inputs: { readonly x: TensorRef; readonly wide: TensorRef; readonly last: TensorRef },
  ): { first: TensorRef; second: TensorRef } => {
    const y = matmul(recording, { x: inputs.x, weight: inputs.wide });
    const second = matmul(recording, { x: columns(y, 4, 12), weight: inputs.last });
    expect(recording.dispatches).toHaveLength(2);
    return { first: columns(y, 0, 4), second };
  };
  const inputs = { x, wide: wide.tensor, last: last.tensor };
  const result = await run(device, split, inputs, {}, settings);
  const all = reference({ x: x.data, weight: wide.values }, { rows, inner, outputs: 12 });
  const v = all.filter((_, i) => i % 12 >= 4);
  expectProduct(
    result.first.data,
    all.filter((_, i) => i % 12 < 4),
    {
      x: x.data,
      weight: wide.values.subarray(0, 4 * inner),
      inner,
    },
  );
  const expected = reference({ x: v, weight: last.values }, { rows, inner: 8, outputs: 3 });
  expectProduct(result.second.data, expected, { x: v, weight: last.values, inner: 8 });
});

const matrixDevice = await openMatrixDevice();
const matrixUnits = { poison: true, force: { unit: 'matrix' } };
// x is rounded to f16: 2^-11 of every product, and 1e-5 as above.
const MATRIX_TOLERANCE = 2 ** -11 + 1e-5;

const MATRIX_SHAPES: [number, number, number][] = [
  [1, 8, 1],
  [33, 45, 62],
  [64, 64, 64],
  [131, 203, 133],
  [65, 129, 66],
];
if (hasLargeTiles(matrixDevice)) MATRIX_SHAPES.push([1290, 72, 1160]);

describe('matmul on matrix units', () => {
  it.each(MATRIX_SHAPES)('multiplies %i rows of %i by %i outputs', async (rows, inner, outputs) => {
    const random = new Random(rows * 1009 + inner * 31 + outputs);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], 'f16');
    const bias = normalTensor(random, [outputs]);
    const residual = normalTensor(random, [rows, outputs]);
    const options = { activation: 'silu', scale: -0.5 } as const;
    const spaced = spacedRows(x.data, inner, inner + 3);
    const y = await run(
      matrixDevice,
      matmul,
      { x: spaced, weight: weight.tensor, bias, residual },
      options,
      matrixUnits,
    );
    const expected = reference(
      { x: x.data, weight: weight.values, bias: bias.data, residual: residual.data },
      { rows, inner, outputs, ...options },
    );
    expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner }, options.activation, MATRIX_TOLERANCE);
  });

  it.each(['f16', 'q8', 'q4'] as const)('normalises x on the way, %s', async (dtype) => {
    const [rows, inner, outputs] = [70, 77, 66];
    const random = new Random(31);
    const x = normalTensor(random, [rows, inner]).data.map((value, i) => value * 2 ** (Math.floor(i / inner) % 5));
    const weight = weightMatrix(random, [outputs, inner], dtype);
    const normWeight = normalTensor(random, [inner]);
    const options = { normEps: 0.01, normWeightOffset: 1 };
    const inputs = { x: spacedRows(x, inner, inner + 3), weight: weight.tensor, normWeight };
    const y = await run(matrixDevice, matmul, inputs, options, matrixUnits);
    const operands = { weight: weight.values, normWeight: normWeight.data };
    const expected = reference({ x, ...operands }, { rows, inner, outputs, ...options });
    const norm = { rows, width: inner, eps: 0.01, weightOffset: 1 };
    const normalised = rmsNorm({ x, weight: normWeight.data }, norm);
    // Quants times their scales are rounded as well.
    const tolerance = dtype === 'f16' ? MATRIX_TOLERANCE : 2 * MATRIX_TOLERANCE;
    expectProduct(y.data, expected, { x: normalised, weight: weight.values, inner }, 'none', tolerance);
  });

  it('takes values beyond f16 for its largest one', async () => {
    const [rows, inner, outputs] = [32, 8, 16];
    const x = { data: new Float32Array(rows * inner).fill(-1e6), shape: [rows, inner], dtype: 'f32' as const };
    const weight = packMatrix(new Float32Array(outputs * inner).fill(1), [outputs, inner], 'f16');
    const y = await run(matrixDevice, matmul, { x, weight }, {}, matrixUnits);
    expect([...new Set(y.data)]).toEqual([-65_504 * inner]);
  });
});

it('agrees where the inner loop is unrolled, as on a GPU', async () => {
  const [rows, inner, outputs] = [65, 37, 70];
  const random = new Random(65);
  const x = normalTensor(random, [rows, inner]);
  const weight = weightMatrix(random, [outputs, inner], 'f32');
  const recording = new Recording({ ...device.capabilities, software: false });
  const refs = {
    x: recording.external('x', 'f32', [rows, inner]),
    weight: recording.external('weight', 'f32', [outputs, inner], weight.tensor.rowStride),
    out: recording.external('y', 'f32', [rows, outputs]),
  };
  matmul(recording, refs);
  const plan = await executor.compile(recording);
  const tensors = {
    x: device.upload('x', x),
    weight: device.upload('weight', weight.tensor),
    y: device.createTensor('y', 'f32', [rows, outputs]),
  };
  plan.bind(tensors).submit();
  const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
  expectProduct((await device.read(tensors.y)).data.subarray(0, rows * outputs), expected, {
    x: x.data,
    weight: weight.values,
    inner,
  });
  plan.dispose();
});

describe('the ends of matmul', () => {
  const [rows, inner, outputs] = [5, 24, 10];
  const random = new Random(5);
  const x = normalTensor(random, [rows, inner]);
  const weight = weightMatrix(random, [outputs, inner], 'f16');
  const bias = normalTensor(random, [outputs]);
  const residual = normalTensor(random, [rows, outputs]);

  it.each(ACTIVATIONS)('applies bias, %s, scale and residual', async (activation) => {
    const options = { activation, scale: -0.5 };
    const y = await run(device, matmul, { x, weight: weight.tensor, bias, residual }, options, settings);
    const expected = reference(
      { x: x.data, weight: weight.values, bias: bias.data, residual: residual.data },
      { rows, inner, outputs, ...options },
    );
    expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner }, activation);
  });

  it('reads columns of a wider tensor, and nothing beside them', async () => {
    for (const [from, stride] of [
      [8, 40],
      [3, 37],
    ] as const) {
      const wide = spacedRows(x.data, inner, stride);
      const data = new Float32Array(rows * stride).fill(NaN);
      data.set(wide.data.subarray(0, data.length - from), from);
      const slice = (
        recording: Recording,
        inputs: { readonly wide: TensorRef; readonly weight: TensorRef },
      ): TensorRef => matmul(recording, { x: columns(inputs.wide, from, from + inner), weight: inputs.weight });
      const inputs = { wide: { data, shape: [rows, stride], dtype: 'f32' as const }, weight: weight.tensor };
      const y = await run(device, slice, inputs, {}, settings);
      const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
      expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
    }
  });

  it('keeps NaN behind short rows out of the sums', async () => {
    const width = inner - 3;
    const narrow = normalTensor(random, [rows, width]);
    const w = weightMatrix(random, [outputs, width], 'f16');
    const y = await run(device, matmul, { x: spacedRows(narrow.data, width, inner), weight: w.tensor }, {}, settings);
    const expected = reference({ x: narrow.data, weight: w.values }, { rows, inner: width, outputs });
    expectProduct(y.data, expected, { x: narrow.data, weight: w.values, inner: width });
  });

  it('writes into columns of another tensor and leaves the rest', async () => {
    for (const [from, width] of [
      [4, 20],
      [5, 21],
    ] as const) {
      const target = normalTensor(random, [rows, width]);
      const into = (
        recording: Recording,
        inputs: { readonly x: TensorRef; readonly weight: TensorRef; readonly target: TensorRef },
      ): TensorRef => {
        matmul(recording, { x: inputs.x, weight: inputs.weight, out: columns(inputs.target, from, from + outputs) });
        return inputs.target;
      };
      const y = await run(device, into, { x, weight: weight.tensor, target }, {}, settings);
      const inside = (i: number): boolean => i % width >= from && i % width < from + outputs;
      const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
      expectProduct(
        y.data.filter((_, i) => inside(i)),
        expected,
        { x: x.data, weight: weight.values, inner },
      );
      expectSameBits(
        y.data.filter((_, i) => !inside(i)),
        target.data.filter((_, i) => !inside(i)),
      );
    }
  });

  it('runs one recording for many lengths', async () => {
    const length = namedSize('length', 40);
    const recording = new Recording(device.capabilities);
    const refs = {
      x: recording.external('x', 'f32', [length, inner]),
      weight: recording.external('weight', 'f16', [outputs, inner], weight.tensor.rowStride),
    };
    recording.keep('y', matmul(recording, refs));
    const plan = await executor.compile(recording);
    const long = normalTensor(random, [40, inner]);
    const bound = plan.bind({ x: device.upload('x', long), weight: device.upload('weight', weight.tensor) });
    for (const rowsNow of [40, 1, 33]) {
      bound.submit({ length: rowsNow });
      const read = await device.read(plan.output('y'));
      const stride = read.rowStride ?? outputs;
      const values = read.data.subarray(0, rowsNow * stride).filter((_, i) => i % stride < outputs);
      const used = long.data.subarray(0, rowsNow * inner);
      const expected = reference({ x: used, weight: weight.values }, { rows: rowsNow, inner, outputs });
      expectProduct(values, expected, { x: used, weight: weight.values, inner });
    }
    plan.dispose();
  });

  it('refuses what does not fit', async () => {
    const narrow = packMatrix(new Float32Array(8 * outputs), [outputs, 8], 'f32');
    const unpadded = normalTensor(random, [3, 20]);
    const attempt = (
      inputs: Parameters<typeof run<Parameters<typeof matmul>[1], object, TensorRef>>[2],
      options = {},
    ): Promise<unknown> => run(device, matmul, inputs, options, settings);
    await expect(attempt({ x, weight: narrow })).rejects.toThrow(ShapeError);
    await expect(attempt({ x: normalTensor(random, [2, 20]), weight: unpadded })).rejects.toThrow(/rows of 'weight'/);
    await expect(attempt({ x, weight: weight.tensor, bias: normalTensor(random, [3]) })).rejects.toThrow(ShapeError);
    await expect(attempt({ x: weight.tensor, weight: weight.tensor })).rejects.toThrow(ShapeError);
    await expect(attempt({ x, weight: weight.tensor, normWeight: bias })).rejects.toThrow(ShapeError);
    await expect(attempt({ x, weight: weight.tensor, residual, out: residual })).rejects.toThrow(ArgumentError);
    await expect(attempt({ x, weight: weight.tensor }, { activation: 'swish' })).rejects.toThrow(ArgumentError);
    const tile = { ...TILES['64x64'], THREADS_M: 2 };
    await expect(attempt({ x, weight: weight.tensor }, { tile })).rejects.toThrow(ArgumentError);
  });
});
