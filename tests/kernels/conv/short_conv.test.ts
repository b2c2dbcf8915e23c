import type { HostTensor, Recording, ShortConvInputs, ShortConvResult, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
  shortConv,
} from '@mambalab/kernels';
import { shortConv as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Sums of at most five products of three normal values each, rounded to 2^-24.
const TOLERANCE = { rtol: 4e-6, atol: 4e-6 };

interface Case {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly bias: boolean;
  readonly state: boolean;
}

type Values = HostTensor & { data: Float32Array };

function draw({ batch, length, channels, width, bias, state }: Case): {
  B: Values;
  C: Values;
  x: Values;
  weight: Values;
  bias?: Values;
  state?: Values;
} {
  const random = new Random(batch * 7919 + length * 104_729 + channels * 31 + width);
  const shape = [batch, length, channels];
  return {
    B: normalTensor(random, shape),
    C: normalTensor(random, shape),
    x: normalTensor(random, shape),
    weight: normalTensor(random, [channels, width]),
    ...(bias ? { bias: normalTensor(random, [channels]) } : {}),
    ...(state ? { state: normalTensor(random, [batch, width - 1, channels]) } : {}),
  };
}

function expectResult(result: { y: HostTensor; state: HostTensor }, inputs: object, shape: Case): void {
  const data = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, (value as Values).data]));
  const expected = reference(data as never, shape);
  expectClose(result.y.data, expected.y, TOLERANCE);
  // One product, rounded once.
  expectSameBits(result.state.data, Float32Array.from(expected.state));
}

// TOKENS is 8.
const cases = [1, 2, 8, 9, 17].flatMap((length): Case[] =>
  [2, 3, 4].map((width) => ({
    batch: 2,
    length,
    channels: length === 17 ? 260 : 64,
    width,
    bias: width === 4,
    state: width !== 2 || length !== 1,
  })),
);

describe.each([{ load: 'vec4' }, { load: 'scalar' }])('shortConv %o', (force) => {
  it.each([
    ...cases,
    { batch: 1, length: 1, channels: 8, width: 4, bias: false, state: false },
    { batch: 1, length: 11, channels: 8, width: 3, bias: true, state: false },
    { batch: 3, length: 7, channels: 6, width: 3, bias: false, state: true },
    { batch: 1, length: 5, channels: 1, width: 2, bias: false, state: true },
  ])('$batch x $length x $channels, $width taps, bias $bias, state $state', async (shape) => {
    const inputs = draw(shape);
    const result = await run(device, shortConv, inputs, undefined, { force, executor });
    expectResult(result, inputs, shape);
  });
});

it('runs any length of one recording', async () => {
  const length = namedSize('length', 20);
  const recording = new Record(device.capabilities);
  const shape = { batch: 1, channels: 12, width: 3, bias: false, state: true };
  const refs = {
    B: recording.external('B', 'f32', [1, length, 12]),
    C: recording.external('C', 'f32', [1, length, 12]),
    x: recording.external('x', 'f32', [1, length, 12]),
    weight: recording.external('weight', 'f32', [12, 3]),
    state: recording.external('state', 'f32', [1, 2, 12]),
  };
  recording.keep('y', shortConv(recording, refs).y);
  const plan = await executor.compile(recording);
  for (const now of [1, 2, 8, 20]) {
    const inputs = draw({ ...shape, length: now });
    const tensors = Object.fromEntries(
      Object.entries(inputs as object as { [name: string]: Values }).map(([name, value]) => {
        if (!['B', 'C', 'x'].includes(name)) return [name, device.upload(name, value)];
        const padded = new Float32Array(20 * 12).fill(NaN);
        padded.set(value.data);
        return [name, device.upload(name, { data: padded, shape: [1, 20, 12], dtype: 'f32' })];
      }),
    );
    plan.bind(tensors).submit({ length: now });
    const y = await device.read(plan.output('y'));
    const { state } = tensors;
    if (state === undefined) throw new Error('no state');
    const result = { y: { ...y, data: y.data.subarray(0, now * 12) }, state: await device.read(state) };
    expectResult(result, inputs, { ...shape, length: now });
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }
  plan.dispose();
});

// B | C | x, as LFM2's in_proj writes them, one value aside where the columns are odd.
it.each([
  ['aligned', 20, 0],
  ['odd', 20, 1],
])('reads %s columns of one projection', async (_, channels, skip) => {
  const shape = { batch: 2, length: 11, channels, width: 3, bias: false, state: true };
  const { B, C, x, ...rest } = draw(shape);
  const wide = 3 * channels + 4 * skip;
  const projection = new Float32Array(22 * wide).fill(NaN);
  for (const [part, { data }] of [B, C, x].entries()) {
    for (let row = 0; row < 22; row++) {
      projection.set(data.subarray(row * channels, (row + 1) * channels), row * wide + skip + part * channels);
    }
  }
  const kernel = (
    recording: Recording,
    inputs: Omit<ShortConvInputs, 'B' | 'C' | 'x'> & { projection: TensorRef },
  ): ShortConvResult => {
    const { projection: whole, ...others } = inputs;
    const view = (part: number): TensorRef => {
      const from = skip + part * channels;
      return reshape(columns(whole, from, from + channels), [2, 11, channels]);
    };
    return shortConv(recording, { ...others, B: view(0), C: view(1), x: view(2) });
  };
  const host = { ...rest, projection: { data: projection, shape: [22, wide], dtype: 'f32' as const } };
  const result = await run(device, kernel, host, undefined, { executor });
  expectResult(result, { B, C, x, ...rest }, shape);
});

it('refuses wrong shapes and filters', async () => {
  const good = draw({ batch: 2, length: 3, channels: 8, width: 3, bias: true, state: true });
  const random = new Random(5);
  const refused = (wrong: { [name: string]: HostTensor }): Promise<unknown> =>
    run(device, shortConv, { ...good, ...wrong }, undefined);
  await expect(
    refused({ weight: normalTensor(random, [8, 5]), state: normalTensor(random, [2, 4, 8]) }),
  ).rejects.toThrow(ArgumentError);
  await expect(refused({ B: normalTensor(random, [2, 3, 4]) })).rejects.toThrow(ShapeError);
  await expect(refused({ C: normalTensor(random, [6, 8]) })).rejects.toThrow(ShapeError);
  await expect(refused({ C: { ...good.C, data: new Uint32Array(48), dtype: 'u32' } })).rejects.toThrow(ShapeError);
  await expect(refused({ weight: normalTensor(random, [7, 3]) })).rejects.toThrow(ShapeError);
  await expect(refused({ bias: normalTensor(random, [9]) })).rejects.toThrow(ShapeError);
  await expect(refused({ state: normalTensor(random, [2, 3, 8]) })).rejects.toThrow(ShapeError);
});
