import type { HostTensor, Recording, RmsNormOptions, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  namedSize,
  Recording as Record,
  rmsNorm,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { rmsNorm as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import { tiledCases } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const TOLERANCE = { rtol: 2e-6, atol: 2e-6 };

type Values = HostTensor & { data: Float32Array };

/** The norm with its residual among the results. */
const added = (
  recording: Recording,
  inputs: { x: TensorRef; weight?: TensorRef; residual: TensorRef },
  options: RmsNormOptions,
): { y: TensorRef; residual: TensorRef } => ({ y: rmsNorm(recording, inputs, options), residual: inputs.residual });

const plus = (a: Values, b: Values): Float32Array => a.data.map((value, i) => value + (b.data[i] ?? NaN));

describe.each(simdChoices(device))('rmsNorm %o', (force) => {
  it.each([
    [1, 1],
    [3, 32],
    [2, 255],
    [2, 256],
    [5, 257],
    [4, 1000],
    [7, 2560],
    [1, 8196],
  ])('normalises %i rows of %i', async (rows, width) => {
    const random = new Random(rows * 10_007 + width);
    const x = normalTensor(random, [rows, width], 3);
    const weight = normalTensor(random, [width]);
    for (const [given, weightOffset] of [
      [weight, 0],
      [weight, 1],
      [undefined, 0],
    ] as const) {
      const inputs = given === undefined ? { x } : { x, weight: given };
      const y = await run(device, rmsNorm, inputs, { eps: 1e-5, weightOffset }, { force, executor });
      const expected = reference(
        { x: x.data, ...(given === undefined ? {} : { weight: given.data }) },
        { rows, width, eps: 1e-5, weightOffset },
      );
      expectClose(y.data, expected, TOLERANCE);
      expect(y.shape).toEqual([rows, width]);
    }
  });
});

it.each(tiledCases(device))('rmsNorm by tiles %o', async ({ force, rows, width, tile }) => {
  const random = new Random(rows * 31 + width);
  const x = normalTensor(random, [rows, width], 3);
  const weight = normalTensor(random, [width]);
  const residual = normalTensor(random, [rows, width]);
  const shape = { rows, width, eps: 1e-5 };
  const both = await run(device, added, { x, weight, residual }, { tile }, { force, executor });
  expectSameBits(both.residual.data, plus(residual, x));
  const inputs = { x: x.data, weight: weight.data, residual: residual.data };
  expectClose(both.y.data, reference(inputs, shape), TOLERANCE);
  if (force['access'] === 'scalar' || force['simd'] === 'baseline') return;
  const y = await run(device, rmsNorm, { x, weight }, { tile }, { force, executor });
  expectClose(y.data, reference({ x: x.data, weight: weight.data }, shape), TOLERANCE);
});

// Rows that fill no whole workgroup, kept in registers, and rows that are read again.
const HELD = { lanes: 8, rows: 2, held: true };
const PASSING = { lanes: 4, rows: 1, held: false };

it.each(simdChoices(device).flatMap((simd) => ['vector', 'scalar'].map((access) => ({ ...simd, access }))))(
  'rmsNorm adds to a stream %o',
  async (force) => {
    const random = new Random(77);
    for (const [rows, elements, tile] of [
      [5, 16, HELD],
      [5, 13, HELD],
      [3, 35, PASSING],
    ] as const) {
      const width = force.access === 'vector' ? 4 * elements : elements;
      const x = normalTensor(random, [rows, width], 3);
      const weight = normalTensor(random, [width]);
      const addTo = normalTensor(random, [rows, width]);
      const y = await run(device, rmsNorm, { x, weight, addTo }, { weightOffset: 1, tile }, { force, executor });
      const inputs = { x: x.data, weight: weight.data, addTo: addTo.data };
      expectClose(y.data, reference(inputs, { rows, width, eps: 1e-5, weightOffset: 1 }), TOLERANCE);
    }
  },
);

it.each([
  [40, 'vector'],
  [42, 'scalar'],
] as const)('adds to columns from %i on: %s', async (start, access) => {
  const [rows, width] = [3, 36];
  const random = new Random(start);
  const x = normalTensor(random, [rows, width], 3);
  const stream = normalTensor(random, [rows, 100]);
  const recorded: Recording[] = [];
  const kernel = (recording: Recording, inputs: { x: TensorRef; stream: TensorRef }): { stream: TensorRef } => {
    const addTo = columns(inputs.stream, start, start + width);
    expect(rmsNorm(recording, { x: inputs.x, addTo })).toBe(addTo);
    recorded.push(recording);
    return { stream: inputs.stream };
  };
  const result = await run(device, kernel, { x, stream }, undefined, { executor });
  const [dispatch] = recorded.flatMap(({ dispatches }) => dispatches);
  expect(dispatch?.shader.variants[dispatch.variant]?.choices['access']).toBe(access);
  const y = reference({ x: x.data }, { rows, width, eps: 1e-5 });
  const inside = (i: number): boolean => i % 100 >= start && i % 100 < start + width;
  const expected = stream.data.map(
    (value, i) => value + (inside(i) ? (y[Math.floor(i / 100) * width + (i % 100) - start] ?? NaN) : 0),
  );
  expectClose(result.stream.data, expected, TOLERANCE);
  // What lies beside the columns keeps its bits.
  const beside = (data: Float32Array): Float32Array => data.filter((_, i) => !inside(i));
  expectSameBits(beside(result.stream.data as Float32Array), beside(stream.data));
});

it.each([
  [40, 'vector'],
  [42, 'scalar'],
] as const)('reads and updates columns from %i on: %s', async (start, access) => {
  const [rows, width] = [3, 36];
  const random = new Random(start);
  const wide = normalTensor(random, [rows, 100]);
  const stream = normalTensor(random, [rows, 100]);
  const weight = normalTensor(random, [width]);
  const chosen: (string | undefined)[] = [];
  const kernel = (
    recording: Recording,
    inputs: { wide: TensorRef; stream: TensorRef; weight: TensorRef },
  ): { y: TensorRef; stream: TensorRef } => {
    const [x, residual] = [inputs.wide, inputs.stream].map((all) => columns(all, start, start + width));
    if (x === undefined || residual === undefined) throw new Error('Two views are needed.');
    const y = rmsNorm(recording, { x, weight: inputs.weight, residual });
    const [dispatch] = recording.dispatches;
    chosen.push(dispatch?.shader.variants[dispatch.variant]?.choices['access']);
    return { y, stream: inputs.stream };
  };
  const result = await run(device, kernel, { wide, stream, weight }, undefined, { executor });
  const slice = (data: Float32Array): number[] =>
    Array.from({ length: rows * width }, (_, i) => data[Math.floor(i / width) * 100 + start + (i % width)] ?? NaN);
  const inputs = { x: slice(wide.data), residual: slice(stream.data), weight: weight.data };
  expectClose(result.y.data, reference(inputs, { rows, width, eps: 1e-5 }), TOLERANCE);
  const sum = stream.data.map((value, i) => {
    const column = i % 100;
    return column >= start && column < start + width ? value + (wide.data[i] ?? NaN) : value;
  });
  expectSameBits(result.stream.data, sum);
  expect(chosen).toEqual([access]);
});

it('takes any number of rows below the largest', async () => {
  const [most, width] = [9, 64];
  const random = new Random(6);
  const all = normalTensor(random, [most, width]);
  const recording = new Record(device.capabilities);
  const length = namedSize('length', most);
  const x = recording.external('x', 'f32', [1, length, width]);
  recording.keep('y', rmsNorm(recording, { x }, { tile: { lanes: 8, rows: 4, held: true } }));
  const plan = await executor.compile(recording);
  const tensors = { x: device.upload('x', { ...all, shape: [1, most, width] }) };
  const bound = plan.bind(tensors);
  for (const rows of [1, 4, 5, 9]) {
    bound.submit({ length: rows });
    const y = await device.read(plan.output('y'));
    const x = all.data.subarray(0, rows * width);
    expectClose(y.data.subarray(0, rows * width), reference({ x }, { rows, width, eps: 1e-5 }), TOLERANCE);
  }
  tensors.x.dispose();
  plan.dispose();
});

it('gives the same bits again and again', async () => {
  const random = new Random(8);
  const x = normalTensor(random, [9, 132]);
  const residual = normalTensor(random, [9, 132]);
  const tile = { lanes: 32, rows: 4, held: true };
  const first = await run(device, added, { x, residual }, { tile }, { executor });
  for (let i = 0; i < 5; i++) {
    const again = await run(device, added, { x, residual }, { tile }, { executor });
    expectSameBits(again.y.data, first.y.data);
    expectSameBits(again.residual.data, first.residual.data);
  }
});

it('refuses weights, residuals and eps that do not fit', async () => {
  const random = new Random(1);
  const x = normalTensor(random, [2, 8]);
  const attempt = (inputs: { [name: string]: HostTensor }, options: RmsNormOptions = {}): Promise<unknown> =>
    run(device, rmsNorm, { x, ...inputs }, options);
  await expect(attempt({ weight: normalTensor(random, [9]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ residual: normalTensor(random, [2, 9]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ addTo: normalTensor(random, [1, 8]) })).rejects.toThrow(ShapeError);
  const streams = { residual: normalTensor(random, [2, 8]), addTo: normalTensor(random, [2, 8]) };
  await expect(attempt(streams)).rejects.toThrow(ArgumentError);
  const same = (recording: Recording, inputs: { x: TensorRef }): TensorRef =>
    rmsNorm(recording, { x: inputs.x, addTo: inputs.x });
  await expect(run(device, same, { x }, undefined)).rejects.toThrow(ShapeError);
  await expect(attempt({ x: { data: new Uint32Array(16), shape: [2, 8], dtype: 'u32' } })).rejects.toThrow(ShapeError);
  await expect(attempt({}, { eps: -1 })).rejects.toThrow(ArgumentError);
  await expect(attempt({}, { eps: NaN })).rejects.toThrow(ArgumentError);
});
