import type { TensorRef } from '@mambalab/kernels';
import {
  columns,
  Executor,
  matvec,
  namedSize,
  Recording,
  rowsOf,
  run,
  ShapeError,
  subtractSize,
} from '@mambalab/kernels';
import { matvec as reference, rmsNorm } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectProduct, spacedRows, WEIGHT_DTYPES, weightMatrix } from '../../support/matrices.ts';
import { normalTensor, Random } from '../../support/numbers.ts';

// f32 sums in another order than the reference's: 1e-5 of the sum of magnitudes (see expectProduct).
const device = await openTestDevice();
const executor = new Executor(device, { poison: true });

describe.each(simdChoices(device))('matvec %o', (force) => {
  const settings = { force, poison: true, executor };

  it.each(WEIGHT_DTYPES)('multiplies with %s weights', async (dtype) => {
    for (const [rows, inner, outputs] of [
      [1, 20, 1],
      [1, 32, 64],
      [2, 172, 65],
      [3, 256, 5],
      [4, 77, 9],
      [8, 33, 6],
      [1, 2056, 3],
    ] as const) {
      const random = new Random(rows * 1009 + inner * 31 + outputs);
      const x = normalTensor(random, [rows, inner]);
      const weight = weightMatrix(random, [outputs, inner], dtype);
      const y = await run(device, matvec, { x, weight: weight.tensor }, {}, settings);
      expect(y.shape).toEqual([rows, outputs]);
      const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
      expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
    }
  });

  it.each(['q8', 'q4'] as const)('multiplies with %s weights', async (dtype) => {
    for (const [rows, inner, outputs] of [
      [1, 32, 1],
      [4, 100, 9],
      [7, 33, 6],
      [1, 4136, 3],
    ] as const) {
      const random = new Random(rows * 1009 + inner * 31 + outputs);
      const x = spacedRows(normalTensor(random, [rows, inner]).data, inner, inner % 4 === 0 ? inner : inner + 2);
      const weight = weightMatrix(random, [outputs, inner], dtype);
      const y = await run(device, matvec, { x, weight: weight.tensor }, {}, settings);
      const values = x.data.filter((_, i) => i % (x.rowStride ?? inner) < inner);
      const expected = reference({ x: values, weight: weight.values }, { rows, inner, outputs });
      expectProduct(y.data, expected, { x: values, weight: weight.values, inner });
    }
  });

  it('agrees for every number of rows and outputs of a workgroup', async () => {
    const [rows, inner, outputs] = [7, 530, 11];
    const random = new Random(7);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], 'f16');
    const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
    for (const [ROWS, X_ROWS, WORKGROUP_SIZE, AHEAD] of [
      [1, 1, 32, 1],
      [1, 4, 32, 2],
      [2, 2, 64, 1],
      [4, 1, 256, 2],
      [4, 4, 32, 1],
    ] as const) {
      const shape = { ROWS, X_ROWS, WORKGROUP_SIZE, AHEAD };
      const y = await run(device, matvec, { x, weight: weight.tensor }, { shape }, settings);
      expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
    }
  });

  it('normalises x on the way', async () => {
    for (const [rows, inner, outputs] of [
      [1, 264, 5],
      [4, 40, 9],
      [3, 21, 4],
    ] as const) {
      const random = new Random(inner);
      const x = normalTensor(random, [rows, inner], 3);
      const weight = weightMatrix(random, [outputs, inner], 'bf16');
      const normWeight = normalTensor(random, [inner]);
      const bias = normalTensor(random, [outputs]);
      const options = { activation: 'silu', scale: 2, normEps: 0.01, normWeightOffset: rows % 2 } as const;
      const y = await run(device, matvec, { x, weight: weight.tensor, normWeight, bias }, options, settings);
      const norm = { rows, width: inner, eps: 0.01, weightOffset: rows % 2 };
      const normalised = rmsNorm({ x: x.data, weight: normWeight.data }, norm);
      const expected = reference(
        { x: normalised, weight: weight.values, bias: bias.data },
        { rows, inner, outputs, activation: 'silu', scale: 2 },
      );
      expectProduct(y.data, expected, { x: normalised, weight: weight.values, inner }, 'silu');
    }
  });

  // Every activation is checked in matmul: the shaders share the functions and their numbers.
  it('applies bias, activation, scale and residual', async () => {
    const [rows, inner, outputs] = [2, 24, 10];
    const random = new Random(5);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], 'f16');
    const bias = normalTensor(random, [outputs]);
    const residual = normalTensor(random, [rows, outputs]);
    for (const activation of ['gelu', 'relu2'] as const) {
      const options = { activation, scale: -0.5 };
      const y = await run(device, matvec, { x, weight: weight.tensor, bias, residual }, options, settings);
      const expected = reference(
        { x: x.data, weight: weight.values, bias: bias.data, residual: residual.data },
        { rows, inner, outputs, ...options },
      );
      expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner }, activation);
    }
  });

  it('reads columns of a wider tensor, and nothing beside them', async () => {
    const [rows, inner, outputs] = [3, 21, 6];
    const random = new Random(3);
    const x = normalTensor(random, [rows, inner]);
    const weight = weightMatrix(random, [outputs, inner], 'f32');
    const expected = reference({ x: x.data, weight: weight.values }, { rows, inner, outputs });
    for (const [from, stride] of [
      [8, 40],
      [3, 37],
    ] as const) {
      const data = new Float32Array(rows * stride).fill(NaN);
      data.set(spacedRows(x.data, inner, stride).data.subarray(0, data.length - from), from);
      const slice = (
        recording: Recording,
        inputs: { readonly wide: TensorRef; readonly weight: TensorRef },
      ): TensorRef => matvec(recording, { x: columns(inputs.wide, from, from + inner), weight: inputs.weight });
      const inputs = { wide: { data, shape: [rows, stride], dtype: 'f32' as const }, weight: weight.tensor };
      const y = await run(device, slice, inputs, {}, settings);
      expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
    }
  });
});

it.each(['q8', 'q4'] as const)('agrees with the workgroups of a GPU for %s, normalised', async (dtype) => {
  const [rows, inner, outputs] = [2, 2152, 6];
  const random = new Random(17);
  const x = normalTensor(random, [rows, inner]);
  const weight = weightMatrix(random, [outputs, inner], dtype);
  const normWeight = normalTensor(random, [inner]);
  // Pairs of loads without a mask, and a rest.
  const shape = { ROWS: 4, X_ROWS: 2, WORKGROUP_SIZE: 32, AHEAD: 2 } as const;
  const options = { shape, normEps: 0.01, normWeightOffset: 1 };
  const inputs = { x, weight: weight.tensor, normWeight };
  const y = await run(asHardware(device), matvec, inputs, options, { poison: true });
  const norm = { rows, width: inner, eps: 0.01, weightOffset: 1 };
  const normalised = rmsNorm({ x: x.data, weight: normWeight.data }, norm);
  const expected = reference({ x: normalised, weight: weight.values }, { rows, inner, outputs });
  expectProduct(y.data, expected, { x: normalised, weight: weight.values, inner });
});

it.each(['q8', 'q4'] as const)('reads rows and columns of a wider matrix of %s', async (dtype) => {
  const [inner, outputs] = [64, 5];
  const random = new Random(19);
  const x = normalTensor(random, [1, inner]);
  const weight = weightMatrix(random, [9, 160], dtype);
  const part = (recording: Recording, inputs: { readonly x: TensorRef; readonly wide: TensorRef }): TensorRef =>
    matvec(recording, { x: inputs.x, weight: columns(rowsOf(inputs.wide, 3, outputs), 32, 32 + inner) });
  const y = await run(device, part, { x, wide: weight.tensor }, {}, { poison: true, executor });
  const rows = Array.from({ length: outputs }, (_, n) =>
    weight.values.subarray((3 + n) * 160 + 32, (3 + n) * 160 + 96),
  );
  const values = Float32Array.from(rows.flatMap((row) => Array.from(row)));
  const expected = reference({ x: x.data, weight: values }, { inner, outputs });
  expectProduct(y.data, expected, { x: x.data, weight: values, inner });
});

it('makes more outputs than one dimension of a grid holds', async () => {
  const [inner, outputs] = [8, 65_541];
  const random = new Random(9);
  const x = normalTensor(random, [1, inner]);
  const weight = weightMatrix(random, [outputs, inner], 'f16');
  const shape = { ROWS: 1, X_ROWS: 1, WORKGROUP_SIZE: 32, AHEAD: 1 } as const;
  const y = await run(device, matvec, { x, weight: weight.tensor }, { shape }, { poison: true, executor });
  const expected = reference({ x: x.data, weight: weight.values }, { inner, outputs });
  expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
});

it('takes the last row of a prompt whose length is known only when it runs', async () => {
  const [inner, outputs] = [24, 5];
  const random = new Random(11);
  const long = normalTensor(random, [12, inner]);
  const weight = weightMatrix(random, [outputs, inner], 'f16');
  const length = namedSize('length', 12);
  const recording = new Recording(device.capabilities);
  const x = recording.external('x', 'f32', [length, inner]);
  const matrix = recording.external('weight', 'f16', [outputs, inner], weight.tensor.rowStride);
  const last = rowsOf(x, subtractSize(length, 1), 1);
  recording.keep('y', matvec(recording, { x: last, weight: matrix }));
  expect(recording.dispatches[0]?.shader.variants[recording.dispatches[0].variant]?.choices['access']).toBe('vector');
  const plan = await executor.compile(recording);
  const bound = plan.bind({ x: device.upload('x', long), weight: device.upload('weight', weight.tensor) });
  for (const rows of [12, 1, 7]) {
    bound.submit({ length: rows });
    const read = await device.read(plan.output('y'));
    const used = long.data.subarray((rows - 1) * inner, rows * inner);
    const expected = reference({ x: used, weight: weight.values }, { inner, outputs });
    expectProduct(read.data.subarray(0, outputs), expected, { x: used, weight: weight.values, inner });
  }
  plan.dispose();
});

it('refuses more rows than it is made for', async () => {
  const random = new Random(1);
  const weight = weightMatrix(random, [3, 8], 'f32').tensor;
  await expect(run(device, matvec, { x: normalTensor(random, [9, 8]), weight }, {})).rejects.toThrow(ShapeError);
  const wide = weightMatrix(random, [3, 96], 'q4').tensor;
  const between = (recording: Recording, inputs: { readonly x: TensorRef; readonly wide: TensorRef }): TensorRef =>
    matvec(recording, { x: inputs.x, weight: columns(inputs.wide, 8, 40) });
  await expect(run(device, between, { x: normalTensor(random, [1, 32]), wide }, {})).rejects.toThrow(/multiples of 32/);
  const normWeight = normalTensor(random, [7]);
  await expect(run(device, matvec, { x: normalTensor(random, [1, 8]), weight, normWeight }, {})).rejects.toThrow(
    ShapeError,
  );
});
