import type { GatedRmsNormOptions, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, gatedRmsNorm, run, ShapeError } from '@mambalab/kernels';
import { gatedRmsNorm as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import { tiledCases } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// One rounding of exp and of a sum of at most 8192 squares.
const TOLERANCE = { rtol: 4e-6, atol: 4e-6 };

describe.each(simdChoices(device))('gatedRmsNorm %o', (force) => {
  it.each([
    // rows, width, groups: 16-byte loads
    [1, 16, 1],
    [3, 128, 8],
    [2, 1020, 1],
    [2, 1028, 1],
    [1, 8192, 1],
    [3, 2048, 2],
    // single loads
    [2, 1, 1],
    [1, 255, 1],
    [2, 513, 1],
    [3, 30, 5],
    [2, 42, 7],
  ])('normalises %i rows of %i in %i groups', async (rows, width, groups) => {
    const random = new Random(rows * 10_007 + width + groups);
    const x = normalTensor(random, [rows, width], 3);
    const z = normalTensor(random, [rows, width], 2);
    const weight = normalTensor(random, [width]);
    for (const normBeforeGate of [false, true]) {
      const options = { groups, eps: 1e-5, normBeforeGate };
      const y = await run(device, gatedRmsNorm, { x, z, weight }, options, { force, executor });
      const expected = reference({ x: x.data, z: z.data, weight: weight.data }, { rows, width, ...options });
      expectClose(y.data, expected, TOLERANCE);
      expect(y.shape).toEqual([rows, width]);
    }
  });

  it.each([4, 6, 7])('reads slices of a projection that begin at column %i', async (start) => {
    const [rows, width] = [3, 36];
    const random = new Random(start);
    const wide = normalTensor(random, [rows, 96]);
    const weight = normalTensor(random, [width]);
    const kernel = (recording: Recording, inputs: { wide: TensorRef; weight: TensorRef }): TensorRef =>
      gatedRmsNorm(recording, {
        x: columns(inputs.wide, start, start + width),
        z: columns(inputs.wide, start + width, start + 2 * width),
        weight: inputs.weight,
      });
    const y = await run(device, kernel, { wide, weight }, undefined, { force, executor });
    const slice = (column: number): number[] =>
      Array.from(
        { length: rows * width },
        (_, i) => wide.data[Math.floor(i / width) * 96 + column + (i % width)] ?? NaN,
      );
    const inputs = { x: slice(start), z: slice(start + width), weight: weight.data };
    expectClose(y.data, reference(inputs, { rows, width, eps: 1e-5 }), TOLERANCE);
  });
});

it.each(tiledCases(device))('gatedRmsNorm by tiles %o', async ({ force, rows: slices, width: channels, tile }) => {
  const groups = slices % 3 === 0 ? 3 : 1;
  const [rows, width] = [slices / groups, channels * groups];
  const random = new Random(slices * 31 + width);
  const x = normalTensor(random, [rows, width], 3);
  const z = normalTensor(random, [rows, width], 2);
  const weight = normalTensor(random, [width]);
  const inputs = { x: x.data, z: z.data, weight: weight.data };
  for (const normBeforeGate of force['simd'] === 'baseline' ? [true] : [false, true]) {
    const options = { groups, normBeforeGate };
    const y = await run(device, gatedRmsNorm, { x, z, weight }, { ...options, tile }, { force, executor });
    expectClose(y.data, reference(inputs, { rows, width, eps: 1e-5, ...options }), TOLERANCE);
  }
});

it.each([1, 2, 3, 4, 8])('gates by the sigmoid, without a weight, in %i groups', async (groups) => {
  const [rows, width] = [3, 24];
  const random = new Random(groups);
  const x = normalTensor(random, [rows, width], 3);
  const z = normalTensor(random, [rows, width], 2);
  for (const normBeforeGate of [false, true]) {
    const options = { groups, eps: 1e-5, normBeforeGate, activation: 'sigmoid' as const };
    const y = await run(device, gatedRmsNorm, { x, z }, options, { executor });
    expectClose(y.data, reference({ x: x.data, z: z.data }, { rows, width, ...options }), TOLERANCE);
  }
});

it('takes more slices than one dimension of a grid has', async () => {
  const [rows, width, groups] = [16_500, 16, 4];
  const random = new Random(2);
  const x = normalTensor(random, [rows, width]);
  const z = normalTensor(random, [rows, width]);
  const weight = normalTensor(random, [width]);
  const tile = { lanes: 4, rows: 1, held: false };
  const y = await run(device, gatedRmsNorm, { x, z, weight }, { groups, tile }, { executor });
  const inputs = { x: x.data, z: z.data, weight: weight.data };
  expectClose(y.data, reference(inputs, { rows, width, groups, eps: 1e-5 }), TOLERANCE);
});

it('does not overflow where the gate is far from 0', async () => {
  const z = { data: Float32Array.from([-200, -100, -90, 0, 90, 100, 200, 1]), shape: [1, 8], dtype: 'f32' } as const;
  const ones = { data: new Float32Array(8).fill(1), shape: [1, 8], dtype: 'f32' } as const;
  const weight = { ...ones, shape: [8] };
  const y = await run(device, gatedRmsNorm, { x: ones, z, weight }, {}, { executor });
  const inputs = { x: ones.data, z: z.data, weight: ones.data };
  expectClose(y.data, reference(inputs, { rows: 1, width: 8, eps: 1e-5 }), TOLERANCE);
});

it('gives the same bits again and again', async () => {
  const random = new Random(8);
  const x = normalTensor(random, [9, 132]);
  const z = normalTensor(random, [9, 132]);
  const tile = { lanes: 32, rows: 4, held: true };
  const first = await run(device, gatedRmsNorm, { x, z }, { tile }, { executor });
  for (let i = 0; i < 5; i++) {
    expectSameBits((await run(device, gatedRmsNorm, { x, z }, { tile }, { executor })).data, first.data);
  }
});

it('refuses groups, gates and weights that do not fit', async () => {
  const random = new Random(1);
  const x = normalTensor(random, [2, 8]);
  const weight = normalTensor(random, [8]);
  const attempt = (inputs: { [name: string]: HostTensor }, options: GatedRmsNormOptions = {}): Promise<unknown> =>
    run(device, gatedRmsNorm, { x, z: x, weight, ...inputs }, options);
  await expect(attempt({}, { groups: 3 })).rejects.toThrow(ArgumentError);
  await expect(attempt({}, { groups: 0 })).rejects.toThrow(ArgumentError);
  await expect(attempt({}, { eps: -1 })).rejects.toThrow(ArgumentError);
  await expect(attempt({}, { activation: 'gelu' as never })).rejects.toThrow(ArgumentError);
  await expect(attempt({ z: normalTensor(random, [2, 9]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ weight: normalTensor(random, [9]) })).rejects.toThrow(ShapeError);
});
