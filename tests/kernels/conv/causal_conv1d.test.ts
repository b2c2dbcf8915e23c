import type { HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  causalConv1d,
  columns,
  Executor,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { causalConv1d as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Sums of at most five products, far within the 3e-4 and 1e-3 of causal-conv1d's own tests.
const TOLERANCE = { rtol: 2e-6, atol: 2e-6 };
const LOADS = [{ load: 'vec4' }, { load: 'scalar' }] as const;

interface Case {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly bias: boolean;
  readonly silu: boolean;
  readonly state: boolean;
}

type Values = HostTensor & { data: Float32Array };

function draw({ batch, length, channels, width, bias, state }: Case): {
  x: Values;
  weight: Values;
  bias?: Values;
  state?: Values;
} {
  const random = new Random(batch * 7919 + length * 104_729 + channels * 31 + width);
  return {
    x: normalTensor(random, [batch, length, channels]),
    weight: normalTensor(random, [channels, width]),
    ...(bias ? { bias: normalTensor(random, [channels]) } : {}),
    ...(state ? { state: normalTensor(random, [batch, width - 1, channels]) } : {}),
  };
}

const data = (inputs: Partial<{ [name: string]: Values }>): { [name: string]: Float32Array } =>
  Object.fromEntries(
    Object.entries(inputs).flatMap(([name, value]) => (value === undefined ? [] : [[name, value.data]])),
  );

const lengths = [1, 2, 8, 16, 129, 151];
const cases = lengths.flatMap((length): Case[] =>
  [2, 3, 4].map((width) => ({
    batch: length < 100 ? 2 : 1,
    length,
    channels: length === 129 ? 260 : 64,
    width,
    bias: (length + width) % 2 === 0,
    silu: width !== 3,
    state: length % 3 !== 1,
  })),
);

describe.each(LOADS)('causalConv1d %o', (force) => {
  it.each([
    ...cases,
    { batch: 2, length: 1, channels: 64, width: 4, bias: true, silu: true, state: true },
    { batch: 2, length: 2, channels: 64, width: 4, bias: false, silu: false, state: false },
    { batch: 1, length: 9, channels: 8, width: 4, bias: true, silu: false, state: false },
    { batch: 3, length: 7, channels: 6, width: 4, bias: true, silu: true, state: true },
    { batch: 1, length: 5, channels: 1, width: 2, bias: false, silu: true, state: true },
  ])('$batch x $length x $channels, $width taps, bias $bias, silu $silu, state $state', async (shape) => {
    const inputs = draw(shape);
    const activation = shape.silu ? 'silu' : 'none';
    const result = await run(device, causalConv1d, inputs, { activation }, { force, executor });
    const expected = reference(data(inputs) as never, { ...shape, activation });
    expectClose(result.y.data, expected.y, TOLERANCE);
    // Inputs are copied, never computed with.
    expectSameBits(result.state.data, expected.state);
  });
});

it('reads x and keeps y of any length below the largest', async () => {
  const length = namedSize('length', 40);
  const recording = new Record(device.capabilities);
  const shape = { batch: 1, channels: 12, width: 4, bias: true, silu: true, state: true };
  const refs = {
    x: recording.external('x', 'f32', [1, length, 12]),
    weight: recording.external('weight', 'f32', [12, 4]),
    bias: recording.external('bias', 'f32', [12]),
    state: recording.external('state', 'f32', [1, 3, 12]),
  };
  recording.keep('y', causalConv1d(recording, refs, { activation: 'silu' }).y);
  const plan = await executor.compile(recording);
  for (const now of [1, 2, 3, 8, 17, 40]) {
    const inputs = draw({ ...shape, length: now });
    const padded = new Float32Array(40 * 12).fill(NaN);
    padded.set(inputs.x.data);
    const tensors = {
      x: device.upload('x', { data: padded, shape: [1, 40, 12], dtype: 'f32' }),
      weight: device.upload('weight', inputs.weight),
      bias: device.upload('bias', inputs.bias as Values),
      state: device.upload('state', inputs.state as Values),
    };
    plan.bind(tensors).submit({ length: now });
    const expected = reference(data(inputs) as never, { ...shape, length: now, activation: 'silu' });
    const y = await device.read(plan.output('y'));
    expectClose(y.data.subarray(0, now * 12), expected.y, TOLERANCE);
    expectSameBits((await device.read(tensors.state)).data, expected.state);
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }
  plan.dispose();
});

it.each([
  ['vec4', 36, 100],
  ['odd', 34, 451],
])('reads %s columns of a wide projection', async (_, from, wide) => {
  const random = new Random(wide);
  const [batch, length, channels, width] = [2, 11, 20, 4];
  const projection = normalTensor(random, [batch * length, wide]);
  const weight = normalTensor(random, [channels, width]);
  const state = normalTensor(random, [batch, width - 1, channels]);
  const x = Float32Array.from({ length: batch * length * channels }, (unused, i) => {
    const row = Math.floor(i / channels);
    return projection.data[row * wide + from + (i % channels)] ?? NaN;
  });
  const kernel = (
    recording: Recording,
    inputs: { projection: TensorRef; weight: TensorRef; state: TensorRef },
  ): { y: TensorRef; state: TensorRef } => {
    const view = columns(inputs.projection, from, from + channels);
    return causalConv1d(recording, { ...inputs, x: reshape(view, [batch, length, channels]) } as never);
  };
  const result = await run(device, kernel, { projection, weight, state }, undefined, { executor });
  const expected = reference({ x, weight: weight.data, state: state.data }, { batch, length, channels, width });
  expectClose(result.y.data, expected.y, TOLERANCE);
  expectSameBits(result.state.data, expected.state);
});

it('refuses wrong shapes and filters', async () => {
  const good = draw({ batch: 2, length: 3, channels: 8, width: 4, bias: true, silu: false, state: true });
  const random = new Random(5);
  const refused = (wrong: { [name: string]: Values }): Promise<unknown> =>
    run(device, causalConv1d, { ...good, ...wrong }, {});
  await expect(
    refused({ weight: normalTensor(random, [8, 5]), state: normalTensor(random, [2, 4, 8]) }),
  ).rejects.toThrow(ArgumentError);
  await expect(refused({ weight: normalTensor(random, [7, 4]) })).rejects.toThrow(ShapeError);
  await expect(refused({ bias: normalTensor(random, [9]) })).rejects.toThrow(ShapeError);
  await expect(refused({ state: normalTensor(random, [2, 4, 8]) })).rejects.toThrow(ShapeError);
  await expect(refused({ x: normalTensor(random, [6, 8]) })).rejects.toThrow(ShapeError);
});
