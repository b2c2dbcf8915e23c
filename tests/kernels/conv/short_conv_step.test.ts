import type { HostTensor, Recording, ShortConvStepInputs, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, run, ShapeError, shortConv, shortConvStep } from '@mambalab/kernels';
import { shortConvStep as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// As for shortConv.
const TOLERANCE = { rtol: 4e-6, atol: 4e-6 };

/** The step with its state among the results. */
const step = (recording: Recording, inputs: ShortConvStepInputs): { y: TensorRef; state: TensorRef } => ({
  y: shortConvStep(recording, inputs),
  state: inputs.state,
});

describe.each([{ load: 'vec4' }, { load: 'scalar' }])('shortConvStep %o', (force) => {
  it.each([
    [1, 64, 3, false],
    [2, 260, 4, true],
    [3, 258, 2, false],
    [5, 12, 3, true],
  ])('%i sequences of %i channels, %i taps, bias %s', async (batch, channels, width, hasBias) => {
    const random = new Random(batch * 1000 + channels + width);
    const inputs = {
      B: normalTensor(random, [batch, channels]),
      C: normalTensor(random, [batch, channels]),
      x: normalTensor(random, [batch, channels]),
      weight: normalTensor(random, [channels, width]),
      state: normalTensor(random, [batch, width - 1, channels]),
      ...(hasBias ? { bias: normalTensor(random, [channels]) } : {}),
    };
    const result = await run(device, step, inputs, undefined, { force, executor });
    const data = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, value.data]));
    const expected = reference(data as never, { batch, channels, width });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectSameBits(result.state.data, Float32Array.from(expected.state));
  });
});

it('continues what shortConv left', async () => {
  const random = new Random(77);
  const weight = normalTensor(random, [16, 3]);
  const [B, C, x] = [0, 1, 2].map(() => normalTensor(random, [1, 9, 16])) as [HostTensor, HostTensor, HostTensor];
  const whole = await run(device, shortConv, { B, C, x, weight }, undefined, { executor });
  const part = ({ data }: HostTensor, start: number, end: number, ...shape: number[]): HostTensor => ({
    data: data.slice(start * 16, end * 16),
    shape,
    dtype: 'f32',
  });
  const prompt = { B: part(B, 0, 6, 1, 6, 16), C: part(C, 0, 6, 1, 6, 16), x: part(x, 0, 6, 1, 6, 16), weight };
  let { state } = await run(device, shortConv, prompt, undefined, { executor });
  for (let l = 6; l < 9; l++) {
    const token = { B: part(B, l, l + 1, 1, 16), C: part(C, l, l + 1, 1, 16), x: part(x, l, l + 1, 1, 16) };
    const result = await run(device, step, { ...token, weight, state }, undefined, { executor });
    expectSameBits(result.y.data, whole.y.data.slice(l * 16, (l + 1) * 16));
    state = result.state;
  }
  expectSameBits(state.data, whole.state.data);
});

it('reads columns of one projection', async () => {
  const random = new Random(3);
  const projection = normalTensor(random, [2, 61]);
  const weight = normalTensor(random, [20, 3]);
  const state = normalTensor(random, [2, 2, 20]);
  const kernel = (
    recording: Recording,
    inputs: { projection: TensorRef; weight: TensorRef; state: TensorRef },
  ): TensorRef => {
    const { projection: whole, ...rest } = inputs;
    const [B, C, x] = [columns(whole, 1, 21), columns(whole, 21, 41), columns(whole, 41, 61)] as const;
    return shortConvStep(recording, { ...rest, B, C, x });
  };
  const y = await run(device, kernel, { projection, weight, state }, undefined, { executor });
  const part = (from: number): number[] =>
    [0, 1].flatMap((row) => [...projection.data.subarray(row * 61 + from, row * 61 + from + 20)]);
  const inputs = { B: part(1), C: part(21), x: part(41), weight: weight.data, state: state.data };
  expectClose(y.data, reference(inputs, { batch: 2, channels: 20, width: 3 }).y, TOLERANCE);
});

it('refuses wrong shapes and filters', async () => {
  const random = new Random(4);
  const row = (): HostTensor => normalTensor(random, [2, 8]);
  const good = {
    B: row(),
    C: row(),
    x: row(),
    weight: normalTensor(random, [8, 3]),
    state: normalTensor(random, [2, 2, 8]),
  };
  const refused = (wrong: { [name: string]: HostTensor }): Promise<unknown> =>
    run(device, shortConvStep, { ...good, ...wrong }, undefined);
  await expect(refused({ state: normalTensor(random, [2, 3, 8]) })).rejects.toThrow(ShapeError);
  await expect(refused({ C: normalTensor(random, [2, 1, 8]) })).rejects.toThrow(ShapeError);
  await expect(
    refused({ weight: normalTensor(random, [8, 5]), state: normalTensor(random, [2, 4, 8]) }),
  ).rejects.toThrow(ArgumentError);
});
