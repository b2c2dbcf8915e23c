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

const data = (inputs: Partial<{ [name: string]: HostTensor }>): { [name: string]: HostTensor['data'] } =>
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

/** Sequences of lengths below, at and above K - 1, with padding between and behind them; tokens of both rows. */
const IDS = [
  [4, 4, 4, 4, 9, 2, 2, -1, -1, 7, 7, 7, 1, 1, 1, 1, 1, 1, -1],
  [-1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 5, 5],
];
const STARTS = [0, 4, 5, 7, 9, 12, 18, 20, 35, 36, 38];

const packed = (
  ids: readonly (readonly number[])[],
): { sequenceIds: HostTensor & { data: Int32Array }; starts: HostTensor & { data: Uint32Array } } => ({
  sequenceIds: { data: Int32Array.from(ids.flat()), shape: [ids.length, ids[0]?.length ?? 0], dtype: 'i32' },
  starts: { data: Uint32Array.from(STARTS), shape: [STARTS.length], dtype: 'u32' },
});

describe.each(LOADS)('packed sequences %o', (force) => {
  it.each([
    { width: 2, bias: false, silu: false, state: true, tokensEach: 8 },
    { width: 3, bias: true, silu: true, state: false, tokensEach: 16 },
    { width: 4, bias: true, silu: true, state: true, tokensEach: 16 },
  ])('%o', async ({ tokensEach, ...options }) => {
    const shape = { batch: 2, length: 19, channels: 12, ...options };
    const inputs = { ...draw(shape), ...packed(IDS) };
    const activation = options.silu ? 'silu' : 'none';
    const result = await run(device, causalConv1d, inputs, { activation, tokensEach }, { force, executor });
    const expected = reference(data(inputs) as never, { ...shape, activation });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectSameBits(result.state.data, expected.state);
    expectSameBits(result.sequenceStates?.data ?? [], expected.sequenceStates ?? [NaN]);
  });
});

it('gives a packed sequence what it gets alone', async () => {
  const shape = { batch: 2, length: 19, channels: 12, width: 4, bias: true, silu: true, state: false };
  const inputs = { ...draw(shape), ...packed(IDS) };
  const options = { activation: 'silu' as const };
  const whole = await run(device, causalConv1d, inputs, options, { executor });
  for (const [s, start] of STARTS.slice(0, -1).entries()) {
    const end = STARTS[s + 1] ?? 0;
    const row = Math.floor(start / 19);
    // Padding has no outputs of its own.
    if ((IDS[row]?.[start - row * 19] ?? 0) < 0) continue;
    const x = { data: inputs.x.data.slice(start * 12, end * 12), shape: [1, end - start, 12], dtype: 'f32' as const };
    const { weight, bias } = inputs;
    const alone = await run(device, causalConv1d, { x, weight, ...(bias ? { bias } : {}) }, options, { executor });
    expectSameBits(alone.y.data, whole.y.data.slice(start * 12, end * 12));
    expectSameBits(alone.state.data, whole.sequenceStates?.data.slice(s * 36, (s + 1) * 36) ?? []);
  }
});

it('reads sequences of any length below the largest', async () => {
  const length = namedSize('length', 19);
  const recording = new Record(device.capabilities);
  const refs = {
    x: recording.external('x', 'f32', [2, length, 12]),
    weight: recording.external('weight', 'f32', [12, 4]),
    sequenceIds: recording.external('sequenceIds', 'i32', [2, length]),
  };
  recording.keep('y', causalConv1d(recording, refs).y);
  const plan = await executor.compile(recording);
  const shape = { batch: 2, channels: 12, width: 4, bias: false, silu: false, state: false };
  for (const now of [1, 7, 19]) {
    const { x, weight } = draw({ ...shape, length: now });
    const padded = new Float32Array(2 * 19 * 12).fill(NaN);
    padded.set(x.data);
    const tensors = {
      x: device.upload('x', { data: padded, shape: [2, 19, 12], dtype: 'f32' }),
      weight: device.upload('weight', weight),
      sequenceIds: device.upload('sequenceIds', packed(IDS).sequenceIds),
    };
    plan.bind(tensors).submit({ length: now });
    const ids = IDS.flatMap((row) => row.slice(0, now));
    const inputs = { x: x.data, weight: weight.data, sequenceIds: ids };
    const y = await device.read(plan.output('y'));
    expectClose(y.data.subarray(0, 2 * now * 12), reference(inputs, { ...shape, length: now }).y, TOLERANCE);
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }
  plan.dispose();
});

it('gives the same bits again and again', async () => {
  const shape = { batch: 2, length: 19, channels: 132, width: 4, bias: true, silu: true, state: true };
  const inputs = { ...draw(shape), ...packed(IDS) };
  const first = await run(device, causalConv1d, inputs, { activation: 'silu' as const }, { executor });
  for (let i = 0; i < 8; i++) {
    const again = await run(device, causalConv1d, inputs, { activation: 'silu' as const }, { executor });
    expectSameBits(again.y.data, first.y.data);
    expectSameBits(again.state.data, first.state.data);
    expectSameBits(again.sequenceStates?.data ?? [], first.sequenceStates?.data ?? [NaN]);
  }
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
  const { sequenceIds, starts } = packed([
    [0, 0, 0],
    [1, 1, 1],
  ]);
  const packedRefused = (wrong: { [name: string]: HostTensor }, options = {}): Promise<unknown> =>
    run(device, causalConv1d, { ...good, ...wrong }, options);
  await expect(packedRefused({ starts })).rejects.toThrow(ArgumentError);
  await expect(packedRefused({ sequenceIds: { ...sequenceIds, shape: [3, 2] } })).rejects.toThrow(ShapeError);
  await expect(packedRefused({ sequenceIds: { ...starts, shape: [2, 3], dtype: 'u32' } })).rejects.toThrow(ShapeError);
  const none = { data: new Uint32Array(1), shape: [1], dtype: 'u32' as const };
  await expect(packedRefused({ sequenceIds, starts: none })).rejects.toThrow(ArgumentError);
  await expect(packedRefused({}, { tokensEach: 12 })).rejects.toThrow(ArgumentError);
});
