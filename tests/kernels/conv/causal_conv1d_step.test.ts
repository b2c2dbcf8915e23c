import { ArgumentError, causalConv1d, causalConv1dStep, run, ShapeError } from '@mambalab/kernels';
import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns } from '@mambalab/kernels';
import { causalConv1dStep as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
// As for causalConv1d.
const TOLERANCE = { rtol: 2e-6, atol: 2e-6 };

interface StepInputs {
  readonly x: TensorRef;
  readonly weight: TensorRef;
  readonly bias?: TensorRef;
  readonly state: TensorRef;
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
      const result = await run(device, step, inputs, { activation }, { force, poison: true });
      const expected = reference(
        { x: x.data, weight: weight.data, state: state.data, ...(activation === 'silu' ? { bias: bias.data } : {}) },
        { batch, channels, width, activation },
      );
      expectClose(result.y.data, expected.y, TOLERANCE);
      expectSameBits(result.state.data, expected.state);
    }
  });
});

it('continues what causalConv1d left', async () => {
  const random = new Random(77);
  const weight = normalTensor(random, [16, 4]);
  const x = normalTensor(random, [1, 9, 16]);
  const whole = await run(device, causalConv1d, { x, weight }, { activation: 'silu' as const }, { poison: true });
  const first = { data: x.data.slice(0, 6 * 16), shape: [1, 6, 16], dtype: 'f32' as const };
  let { state } = await run(
    device,
    causalConv1d,
    { x: first, weight },
    { activation: 'silu' as const },
    { poison: true },
  );
  for (let l = 6; l < 9; l++) {
    const token = { data: x.data.slice(l * 16, (l + 1) * 16), shape: [1, 16], dtype: 'f32' as const };
    const result = await run(
      device,
      step,
      { x: token, weight, state },
      { activation: 'silu' as const },
      { poison: true },
    );
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
  const y = await run(device, kernel, { projection, weight, state }, undefined, { poison: true });
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
});
