import { ArgumentError, causalConv1d, causalConv1dStep, Executor, run, ShapeError } from '@mambalab/kernels';
import type { HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import { columns } from '@mambalab/kernels';
import { causalConv1dStep as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// As for causalConv1d.
const TOLERANCE = { rtol: 2e-6, atol: 2e-6 };

interface StepInputs {
  readonly x: TensorRef;
  readonly weight: TensorRef;
  readonly bias?: TensorRef;
  readonly state: TensorRef;
  readonly slots?: TensorRef;
}

/** The step with its state among the results. */
const step = (
  recording: Recording,
  inputs: StepInputs,
  options: { activation?: 'none' | 'silu' },
): { y: TensorRef; state: TensorRef } => ({ y: causalConv1dStep(recording, inputs, options), state: inputs.state });

describe.each([{ load: 'vec4' }, { load: 'scalar' }])('causalConv1dStep %o', (force) => {
  it.each([
    [1, 64, 4],
    [2, 260, 3],
    [3, 258, 2],
    [2, 5, 4],
    [5, 12, 4],
  ])('%i sequences of %i channels, %i taps', async (batch, channels, width) => {
    const random = new Random(batch * 1000 + channels + width);
    const x = normalTensor(random, [batch, channels]);
    const weight = normalTensor(random, [channels, width]);
    const bias = normalTensor(random, [channels]);
    const state = normalTensor(random, [batch, width - 1, channels]);
    for (const activation of ['none', 'silu'] as const) {
      const inputs = activation === 'silu' ? { x, weight, bias, state } : { x, weight, state };
      const result = await run(device, step, inputs, { activation }, { force, executor });
      const expected = reference(
        { x: x.data, weight: weight.data, state: state.data, ...(activation === 'silu' ? { bias: bias.data } : {}) },
        { batch, channels, width, activation },
      );
      expectClose(result.y.data, expected.y, TOLERANCE);
      expectSameBits(result.state.data, expected.state);
    }
  });
});

describe.each([{ load: 'vec4' }, { load: 'scalar' }])('several tokens and slots %o', (force) => {
  it.each([
    [2, 2, 2],
    [3, 5, 3],
    [5, 8, 4],
    [5, 1, 4],
  ])('%i sequences, %i tokens, %i taps', async (batch, length, width) => {
    const channels = 12;
    const random = new Random(batch * 1000 + length * 10 + width);
    const inputs = {
      x: normalTensor(random, [batch, length, channels]),
      weight: normalTensor(random, [channels, width]),
      bias: normalTensor(random, [channels]),
      // Out of order, with padding that is negative and beyond the last, and slots that nobody has.
      state: normalTensor(random, [7, width - 1, channels]),
      slots: { data: Int32Array.of(6, -1, 2, 7, 0).slice(0, batch), shape: [batch], dtype: 'i32' as const },
    };
    const result = await run(device, step, inputs, { activation: 'silu' }, { force, executor });
    const { x, weight, bias, state, slots } = inputs;
    const expected = reference(
      { x: x.data, weight: weight.data, bias: bias.data, state: state.data, slots: slots.data },
      { batch, length, channels, width, activation: 'silu' },
    );
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectSameBits(result.state.data, expected.state);
    expect(result.y.shape).toEqual([batch, length, channels]);
  });
});

it('gives several tokens what they get one by one', async () => {
  const random = new Random(21);
  const [batch, length, channels] = [2, 4, 8];
  const x = normalTensor(random, [batch, length, channels]);
  const weight = normalTensor(random, [channels, 4]);
  const before = normalTensor(random, [batch, 3, channels]);
  const together = await run(device, step, { x, weight, state: before }, {}, { executor });
  let state: HostTensor = before;
  for (let l = 0; l < length; l++) {
    const row = (b: number): number => (b * length + l) * channels;
    const data = Float32Array.from([0, 1].flatMap((b) => Array.from(x.data.slice(row(b), row(b) + channels))));
    const token = { data, shape: [batch, channels], dtype: 'f32' as const };
    const one = await run(device, step, { x: token, weight, state }, {}, { executor });
    const rows = [0, 1].flatMap((b) => Array.from(together.y.data.slice(row(b), row(b) + channels)));
    expectSameBits(one.y.data, rows);
    state = one.state;
  }
  expectSameBits(together.state.data, state.data);
});

it('continues what causalConv1d left', async () => {
  const random = new Random(77);
  const weight = normalTensor(random, [16, 4]);
  const x = normalTensor(random, [1, 9, 16]);
  const whole = await run(device, causalConv1d, { x, weight }, { activation: 'silu' as const }, { executor });
  const first = { data: x.data.slice(0, 6 * 16), shape: [1, 6, 16], dtype: 'f32' as const };
  let { state } = await run(device, causalConv1d, { x: first, weight }, { activation: 'silu' as const }, { executor });
  for (let l = 6; l < 9; l++) {
    const token = { data: x.data.slice(l * 16, (l + 1) * 16), shape: [1, 16], dtype: 'f32' as const };
    const result = await run(device, step, { x: token, weight, state }, { activation: 'silu' as const }, { executor });
    expectSameBits(result.y.data, whole.y.data.slice(l * 16, (l + 1) * 16));
    state = result.state;
  }
  expectSameBits(state.data, whole.state.data);
});

it('reads columns of a wide projection', async () => {
  const random = new Random(3);
  const projection = normalTensor(random, [2, 451]);
  const weight = normalTensor(random, [20, 4]);
  const state = normalTensor(random, [2, 3, 20]);
  const kernel = (
    recording: Recording,
    inputs: { projection: TensorRef; weight: TensorRef; state: TensorRef },
  ): TensorRef =>
    causalConv1dStep(recording, { x: columns(inputs.projection, 34, 54), weight: inputs.weight, state: inputs.state });
  const y = await run(device, kernel, { projection, weight, state }, undefined, { executor });
  const x = [0, 1].flatMap((row) => [...projection.data.subarray(row * 451 + 34, row * 451 + 54)]);
  const expected = reference({ x, weight: weight.data, state: state.data }, { batch: 2, channels: 20, width: 4 });
  expectClose(y.data, expected.y, TOLERANCE);
});

it('refuses wrong shapes and filters', async () => {
  const random = new Random(4);
  const x = normalTensor(random, [2, 8]);
  const weight = normalTensor(random, [8, 4]);
  const wrong = { x, weight, state: normalTensor(random, [2, 2, 8]) };
  await expect(run(device, causalConv1dStep, wrong, {})).rejects.toThrow(ShapeError);
  const long = { x, weight: normalTensor(random, [8, 5]), state: normalTensor(random, [2, 4, 8]) };
  await expect(run(device, causalConv1dStep, long, {})).rejects.toThrow(ArgumentError);
  const good = { x, weight, state: normalTensor(random, [2, 3, 8]) };
  const refused = (change: { [name: string]: HostTensor }): Promise<unknown> =>
    run(device, causalConv1dStep, { ...good, ...change }, {});
  await expect(refused({ x: normalTensor(random, [2, 9, 8]) })).rejects.toThrow(ArgumentError);
  await expect(refused({ slots: { data: new Int32Array(3), shape: [3], dtype: 'i32' } })).rejects.toThrow(ShapeError);
  await expect(refused({ slots: { data: new Uint32Array(2), shape: [2], dtype: 'u32' } })).rejects.toThrow(ShapeError);
  await expect(refused({ state: normalTensor(random, [3, 3, 8]) })).rejects.toThrow(ShapeError);
});
