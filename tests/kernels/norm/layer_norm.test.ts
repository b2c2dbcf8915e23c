import type { HostTensor, LayerNormOptions, Recording, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, layerNorm, run, ShapeError } from '@mambalab/kernels';
import { layerNorm as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import { tiledCases } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// The mean of up to 8196 values, which all outputs share, and then as for rmsNorm.
const TOLERANCE = { rtol: 4e-6, atol: 4e-6 };

describe.each(simdChoices(device))('layerNorm %o', (force) => {
  it.each([
    [3, 32],
    [2, 255],
    [5, 257],
    [2, 2560],
    [1, 8196],
  ])('normalises %i rows of %i', async (rows, width) => {
    const random = new Random(rows * 10_007 + width);
    const x = normalTensor(random, [rows, width], 3);
    const weight = normalTensor(random, [width]);
    const bias = normalTensor(random, [width]);
    for (const [vectors, weightOffset] of [
      [{ weight, bias }, 1],
      [{ weight, bias }, 0],
      [{}, 0],
    ] as const) {
      const options = { eps: 1e-5, weightOffset };
      const y = await run(device, layerNorm, { x, ...vectors }, options, { force, executor });
      const given = Object.fromEntries(Object.entries(vectors).map(([name, { data }]) => [name, data]));
      expectClose(y.data, reference({ x: x.data, ...given }, { rows, width, ...options }), TOLERANCE);
      expect(y.shape).toEqual([rows, width]);
    }
  });
});

it.each(tiledCases(device))('layerNorm by tiles %o', async ({ force, rows, width, tile }) => {
  const random = new Random(rows * 31 + width);
  const x = normalTensor(random, [rows, width], 3);
  const weight = normalTensor(random, [width]);
  const bias = normalTensor(random, [width]);
  const y = await run(device, layerNorm, { x, weight, bias }, { tile }, { force, executor });
  const inputs = { x: x.data, weight: weight.data, bias: bias.data };
  expectClose(y.data, reference(inputs, { rows, width, eps: 1e-5 }), TOLERANCE);
});

it.each([true, false])('keeps the digits of a small spread around a large mean, rows held: %o', async (held) => {
  // Multiples of 1/64 near 4096 are exact; E[x^2] - E[x]^2 would have an error of 1 where the variance is 0.04.
  const width = 60;
  const data = Float32Array.from({ length: width }, (_, i) => 4096 + (((i * 37) % 45) - 22) / 64);
  const x = { data, shape: [1, width], dtype: 'f32' as const };
  const y = await run(device, layerNorm, { x }, { tile: { lanes: 16, rows: 1, held } }, { executor });
  // The mean is rounded to f32: 2.4e-4 of a spread of 0.2.
  expectClose(y.data, reference({ x: data }, { rows: 1, width, eps: 1e-5 }), { rtol: 0, atol: 2.5e-3 });
});

it.each([40, 42])('reads columns from %i on', async (start) => {
  const [rows, width] = [3, 36];
  const random = new Random(start);
  const wide = normalTensor(random, [rows, 100]);
  const bias = normalTensor(random, [width]);
  const kernel = (recording: Recording, inputs: { wide: TensorRef; bias: TensorRef }): TensorRef =>
    layerNorm(recording, { x: columns(inputs.wide, start, start + width), bias: inputs.bias });
  const y = await run(device, kernel, { wide, bias }, undefined, { executor });
  const x = Array.from(
    { length: rows * width },
    (_, i) => wide.data[Math.floor(i / width) * 100 + start + (i % width)] ?? NaN,
  );
  expectClose(y.data, reference({ x, bias: bias.data }, { rows, width, eps: 1e-5 }), TOLERANCE);
});

it('gives the same bits again and again', async () => {
  const x = normalTensor(new Random(8), [9, 132]);
  const tile = { lanes: 32, rows: 4, held: true };
  const first = await run(device, layerNorm, { x }, { tile }, { executor });
  for (let i = 0; i < 5; i++) {
    expectSameBits((await run(device, layerNorm, { x }, { tile }, { executor })).data, first.data);
  }
});

it('refuses weights, biases and eps that do not fit', async () => {
  const random = new Random(1);
  const x = normalTensor(random, [2, 8]);
  const attempt = (inputs: { [name: string]: HostTensor }, options: LayerNormOptions = {}): Promise<unknown> =>
    run(device, layerNorm, { x, ...inputs }, options);
  await expect(attempt({ weight: normalTensor(random, [9]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ bias: normalTensor(random, [2, 8]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ x: { data: new Uint32Array(16), shape: [2, 8], dtype: 'u32' } })).rejects.toThrow(ShapeError);
  await expect(attempt({}, { eps: Infinity })).rejects.toThrow(ArgumentError);
});
