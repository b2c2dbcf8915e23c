import type {
  ActivationName,
  ApplyGateInputs,
  ApplyGateOptions,
  HostTensor,
  Recording,
  TensorRef,
} from '@mambalab/kernels';
import {
  applyGate,
  ArgumentError,
  columns,
  Executor,
  namedSize,
  Recording as Record,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { applyGate as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// The activation's few roundings, and two of the sum.
const TOLERANCE = { rtol: 3e-6, atol: 1e-6 };
const ACTIVATIONS: readonly ActivationName[] = ['none', 'silu', 'gelu', 'geluTanh', 'relu', 'relu2', 'sigmoid'];

/** The load that the only dispatch of a recording was made for. */
const loadOf = ({ dispatches: [dispatch] }: Recording): string | undefined =>
  dispatch?.shader.variants[dispatch.variant]?.choices['load'];

describe.each(['vec4', 'scalar'])('applyGate by %s', (load) => {
  const values = load === 'vec4' ? 4 : 1;

  // Elements on both sides of a workgroup's 64, over one row and several.
  it.each([
    [1, 1],
    [1, 63],
    [1, 64],
    [1, 65],
    [5, 13],
    [3, 43],
    [7, 130],
  ])('gates %i rows of %i elements', async (rows, elements) => {
    const width = elements * values;
    const random = new Random(rows * 1009 + width);
    const x = normalTensor(random, [rows, width]);
    const gate = normalTensor(random, [rows, width], 3);
    const addend = normalTensor(random, [rows, width]);
    const chosen: (string | undefined)[] = [];
    const kernel = (recording: Recording, inputs: ApplyGateInputs, options: ApplyGateOptions): TensorRef => {
      const y = applyGate(recording, inputs, options);
      chosen.push(loadOf(recording));
      return y;
    };
    const options = { activation: 'silu', scale: 0.75 } as const;
    const y = await run(device, kernel, { x, gate, addend }, options, { force: { load }, executor });
    const inputs = { x: x.data, gate: gate.data, addend: addend.data };
    expect(y.shape).toEqual([rows, width]);
    expectClose(y.data, reference(inputs, { rows, width, ...options }), TOLERANCE);
    expect(chosen).toEqual([load]);
  });

  it.each(ACTIVATIONS)('knows %s', async (activation) => {
    const [rows, width] = [2, 36];
    const random = new Random(5);
    const x = normalTensor(random, [rows, width]);
    const gate = normalTensor(random, [rows, width], 4);
    // Where an exponential would overflow.
    gate.data.set([-300, -90, 90, 300]);
    const y = await run(device, applyGate, { x, gate }, { activation }, { force: { load }, executor });
    const expected = reference({ x: x.data, gate: gate.data }, { rows, width, activation });
    expectClose(y.data, expected, TOLERANCE);
  });

  it.each([1, 64, 65])('takes one gate for a row of %i elements', async (elements) => {
    const [rows, width] = [5, elements * values];
    const random = new Random(width);
    const x = normalTensor(random, [rows, width]);
    const wide = normalTensor(random, [rows, 3], 3);
    const residual = normalTensor(random, [rows, width]);
    const kernel = (
      recording: Recording,
      inputs: { x: TensorRef; wide: TensorRef; residual: TensorRef },
    ): TensorRef => {
      const { x, residual } = inputs;
      // Such a gate may lie anywhere.
      const gate = columns(inputs.wide, 1, 2);
      expect(applyGate(recording, { x, gate, residual }, { activation: 'sigmoid' })).toBe(residual);
      return residual;
    };
    const y = await run(device, kernel, { x, wide, residual }, undefined, { force: { load }, executor });
    const gate = wide.data.filter((_, i) => i % 3 === 1);
    const inputs = { x: x.data, gate, addend: residual.data };
    expectClose(y.data, reference(inputs, { rows, width, activation: 'sigmoid' }), TOLERANCE);
  });

  it('adds and copies exactly', async () => {
    const random = new Random(9);
    const [x, addend] = [normalTensor(random, [3, 20]), normalTensor(random, [3, 20])];
    const force = { load };
    const sum = await run(device, applyGate, { x, addend }, {}, { force, executor });
    expectSameBits(
      sum.data,
      x.data.map((value, i) => value + (addend.data[i] ?? NaN)),
    );
    expectSameBits((await run(device, applyGate, { x }, {}, { force, executor })).data, x.data);
    const residual = await run(device, applyGate, { x, residual: addend }, {}, { force, executor });
    expectSameBits(residual.data, sum.data);
  });
});

it.each([
  [12, 8, 'vec4'],
  [12, 10, 'scalar'],
  [13, 8, 'scalar'],
] as const)('reads columns of tensors and writes to others: %i values from %i by %s', async (width, start, load) => {
  const rows = 3;
  const random = new Random(width * start);
  const [wide, target] = [normalTensor(random, [rows, 40]), normalTensor(random, [rows, 32])];
  const recorded: Recording[] = [];
  const kernel = (
    recording: Recording,
    inputs: { wide: TensorRef; target: TensorRef },
    place: 'out' | 'residual',
  ): TensorRef => {
    const x = columns(inputs.wide, 0, width);
    const gate = columns(inputs.wide, 16, 16 + width);
    applyGate(recording, { x, gate, [place]: columns(inputs.target, start, start + width) }, { activation: 'relu2' });
    recorded.push(recording);
    return inputs.target;
  };
  const part = (data: Float32Array, stride: number, from: number): number[] =>
    Array.from({ length: rows * width }, (_, i) => data[Math.floor(i / width) * stride + from + (i % width)] ?? NaN);
  const inputs = { x: part(wide.data, 40, 0), gate: part(wide.data, 40, 16) };
  for (const place of ['out', 'residual'] as const) {
    const given = place === 'out' ? inputs : { ...inputs, addend: part(target.data, 32, start) };
    const y = reference(given, { rows, width, activation: 'relu2' });
    const result = await run(device, kernel, { wide, target }, place, { executor });
    const expected = target.data.map((value, i) => {
      const column = (i % 32) - start;
      return column >= 0 && column < width ? (y[Math.floor(i / 32) * width + column] ?? NaN) : value;
    });
    expectClose(result.data, expected, TOLERANCE);
  }
  expect(recorded.map(loadOf)).toEqual([load, load]);
});

it('takes any number of rows below the largest', async () => {
  const [most, width] = [9, 24];
  const random = new Random(6);
  const [x, gate] = [normalTensor(random, [most, width]), normalTensor(random, [most, width])];
  const recording = new Record(device.capabilities);
  const length = namedSize('length', most);
  const refs = {
    x: recording.external('x', 'f32', [length, width]),
    gate: recording.external('gate', 'f32', [length, width]),
  };
  recording.keep('y', applyGate(recording, refs, { activation: 'silu', scale: 2 }));
  const plan = await executor.compile(recording);
  const tensors = { x: device.upload('x', x), gate: device.upload('gate', gate) };
  const bound = plan.bind(tensors);
  for (const rows of [1, 4, 9]) {
    bound.submit({ length: rows });
    const { data } = await device.read(plan.output('y'));
    const inputs = { x: x.data.subarray(0, rows * width), gate: gate.data.subarray(0, rows * width) };
    const expected = reference(inputs, { rows, width, activation: 'silu', scale: 2 });
    expectClose(data.subarray(0, rows * width), expected, TOLERANCE);
  }
  for (const tensor of Object.values(tensors)) tensor.dispose();
  plan.dispose();
});

describe('applyGate refuses', () => {
  const of = (...shape: number[]): HostTensor => ({
    data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
    shape,
    dtype: 'f32',
  });
  const attempt = (inputs: { [name: string]: HostTensor }, options: ApplyGateOptions = {}): Promise<unknown> =>
    run(device, applyGate, { x: of(2, 8), ...inputs }, options);

  it('shapes and dtypes that do not agree', async () => {
    await expect(attempt({ x: of(2, 2, 2) })).rejects.toThrow(ShapeError);
    await expect(attempt({ x: { ...of(2, 8), dtype: 'u32' } })).rejects.toThrow(ShapeError);
    for (const name of ['gate', 'addend', 'residual', 'out']) {
      await expect(attempt({ [name]: of(3, 8) })).rejects.toThrow(`applyGate: '${name}' must have the shape (2, 8)`);
      await expect(attempt({ [name]: { ...of(2, 8), dtype: 'i32' } })).rejects.toThrow(`'${name}' must be f32`);
    }
    await expect(attempt({ gate: of(3, 1) })).rejects.toThrow("'gate' must have the shape (2, 1)");
    await expect(attempt({ addend: of(2, 1) })).rejects.toThrow(ShapeError);
  });

  it('an activation that is unknown or has no gate, and places that exclude each other', async () => {
    const activation = 'swish' as ActivationName;
    await expect(attempt({ gate: of(2, 8) }, { activation })).rejects.toThrow("no activation 'swish'");
    await expect(attempt({}, { activation: 'silu' })).rejects.toThrow("'silu' has no gate");
    await expect(attempt({ residual: of(2, 8), addend: of(2, 8) })).rejects.toThrow(ArgumentError);
    await expect(attempt({ residual: of(2, 8), out: of(2, 8) })).rejects.toThrow(ArgumentError);
  });

  it.each(['x', 'gate', 'addend'])('a result in the storage of %s', async (name) => {
    const kernel = (recording: Recording, { x, other }: { x: TensorRef; other: TensorRef }): TensorRef =>
      applyGate(recording, { x, [name]: columns(other, 0, 8), out: columns(other, 8, 16) });
    const given = { x: of(2, 8), other: of(2, 16) };
    await expect(run(device, kernel, given, undefined)).rejects.toThrow(ShapeError);
  });
});
