import { Executor, fusedMlp, namedSize, Recording, run, ShapeError } from '@mambalab/kernels';
import { fusedMlp as reference, rmsNorm } from '@mambalab/kernels/reference';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { WeightDtype } from '../../support/matrices.ts';
import { spacedRows, WEIGHT_DTYPES, weightMatrix } from '../../support/matrices.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Two products of f32 sums: errors of 1e-6 of a sum meet the next product's magnitudes; values here are of order 1.
const TOLERANCE = { rtol: 2e-5, atol: 2e-5 };

/** Weights whose products stay of order 1. */
function layer(
  random: Random,
  [rows, width, hidden]: readonly [number, number, number],
  dtype: WeightDtype,
  gated: boolean,
) {
  const scaled = (shape: readonly [number, number]) => {
    const matrix = weightMatrix(random, shape, dtype);
    const shrink = 1 / 2 ** Math.round(Math.log2(Math.sqrt(shape[1])));
    return { matrix, shrink };
  };
  const gate = gated ? scaled([hidden, width]) : undefined;
  return {
    x: normalTensor(random, [rows, width], 1 / Math.sqrt(width)),
    gate,
    up: scaled([hidden, width]),
    down: scaled([width, hidden]),
  };
}

async function expectAgreement(
  sizes: readonly [number, number, number],
  given: {
    readonly dtype: WeightDtype;
    readonly gated: boolean;
    readonly activation?: Activation;
    readonly force?: Record<string, string>;
    readonly residual?: boolean;
    readonly scale?: number;
    readonly norm?: boolean;
  },
): Promise<void> {
  const [rows, width, hidden] = sizes;
  const { dtype, gated, activation = 'silu', force = {}, norm = false } = given;
  const random = new Random(rows * 1009 + width * 31 + hidden);
  const { x, gate, up, down } = layer(random, sizes, dtype, gated);
  const scale = (given.scale ?? 1) * down.shrink;
  const residual = given.residual === true ? normalTensor(random, [rows, width]) : undefined;
  const normWeight = norm ? normalTensor(random, [width], 1 / Math.sqrt(width)) : undefined;
  const inputs = {
    x,
    up: up.matrix.tensor,
    down: down.matrix.tensor,
    ...(gate && { gate: gate.matrix.tensor }),
    ...(residual && { residual }),
    ...(normWeight && { normWeight }),
  };
  const options = { activation, scale, normEps: 1e-3 };
  const y = await run(device, fusedMlp, inputs, options, { force, poison: true, executor });
  expect(y.shape).toEqual([rows, width]);
  const normalised =
    normWeight === undefined ? x.data : rmsNorm({ x: x.data, weight: normWeight.data }, { rows, width, eps: 1e-3 });
  const product = reference(
    { x: normalised, gate: gate?.matrix.values, up: up.matrix.values, down: down.matrix.values },
    { rows, width, hidden, activation },
  );
  expectClose(
    y.data,
    product.map((value, i) => value * scale + (residual?.data[i] ?? 0)),
    TOLERANCE,
  );
}

describe.each(simdChoices(device))('fusedMlp for few rows %o', (force) => {
  it.each(WEIGHT_DTYPES)('has %s weights', async (dtype) => {
    await expectAgreement([1, 40, 21], { dtype, gated: true, force });
    await expectAgreement([3, 20, 70], { dtype, gated: true, force, residual: true });
    await expectAgreement([1, 40, 21], { dtype, gated: false, force, residual: true });
  });

  it('normalises x on the way', async () => {
    await expectAgreement([5, 72, 33], { dtype: 'f16', gated: true, force, norm: true, scale: -2 });
    await expectAgreement([2, 21, 9], { dtype: 'bf16', gated: false, force, norm: true, residual: true });
  });
});

describe('fusedMlp for many rows', () => {
  it.each(WEIGHT_DTYPES)('has %s weights', async (dtype) => {
    await expectAgreement([34, 24, 70], { dtype, gated: true, residual: true, scale: 0.5 });
  });

  it('has tiles for shorter prompts, rows of any stride, and no gate', async () => {
    await expectAgreement([9, 20, 65], { dtype: 'f16', gated: true });
    await expectAgreement([33, 33, 30], { dtype: 'f16', gated: false });
  });
});

// All of them are checked in matmul: the shaders share the functions and their numbers.
it.each(['gelu', 'relu2'] as const)('applies %s', async (activation) => {
  await expectAgreement([1, 16, 12], { dtype: 'f32', gated: true, activation });
  await expectAgreement([1, 16, 12], { dtype: 'f32', gated: false, activation });
  await expectAgreement([9, 16, 12], { dtype: 'f32', gated: true, activation });
});

it('keeps NaN behind rows out of the sums', async () => {
  const random = new Random(4);
  for (const rows of [2, 10]) {
    const [width, hidden] = [21, 10];
    const { x, gate, up, down } = layer(random, [rows, width, hidden], 'f16', true);
    const inputs = {
      x: spacedRows(x.data, width, 24),
      gate: gate?.matrix.tensor,
      up: up.matrix.tensor,
      down: down.matrix.tensor,
    };
    const y = await run(
      device,
      fusedMlp,
      inputs,
      { activation: 'silu', scale: down.shrink },
      { poison: true, executor },
    );
    const product = reference(
      { x: x.data, gate: gate?.matrix.values, up: up.matrix.values, down: down.matrix.values },
      { rows, width, hidden, activation: 'silu' },
    );
    expectClose(
      y.data,
      product.map((value) => value * down.shrink),
      TOLERANCE,
    );
  }
});

it('runs one recording for many lengths', async () => {
  const [width, hidden] = [16, 20];
  const random = new Random(8);
  const { x, gate, up, down } = layer(random, [40, width, hidden], 'f16', true);
  const residual = normalTensor(random, [40, width]);
  const length = namedSize('length', 40);
  const recording = new Recording(device.capabilities);
  const matrix = (name: string, shape: readonly [number, number], stride: number) =>
    recording.external(name, 'f16', shape, stride);
  fusedMlp(
    recording,
    {
      x: recording.external('x', 'f32', [length, width]),
      gate: matrix('gate', [hidden, width], 16),
      up: matrix('up', [hidden, width], 16),
      down: matrix('down', [width, hidden], 24),
      residual: recording.external('residual', 'f32', [length, width]),
    },
    { activation: 'geluTanh' },
  );
  const plan = await executor.compile(recording);
  const host = { x, gate: gate?.matrix.tensor ?? x, up: up.matrix.tensor, down: down.matrix.tensor };
  const uploaded = Object.fromEntries(
    Object.entries(host).map(([name, tensor]) => [name, device.upload(name, tensor)]),
  );
  for (const rows of [40, 3, 33]) {
    const target = device.upload('residual', residual);
    plan.bind({ ...uploaded, residual: target }).submit({ length: rows });
    const read = await device.read(target);
    const expected = reference(
      {
        x: x.data.subarray(0, rows * width),
        gate: gate?.matrix.values,
        up: up.matrix.values,
        down: down.matrix.values,
        residual: residual.data.subarray(0, rows * width),
      },
      { rows, width, hidden, activation: 'geluTanh' },
    );
    expectClose(read.data.subarray(0, rows * width), expected, TOLERANCE);
    expect(read.data.slice(rows * width)).toEqual(residual.data.slice(rows * width));
  }
  plan.dispose();
});

it('refuses what does not fit', async () => {
  const random = new Random(1);
  const { x, gate, up, down } = layer(random, [9, 16, 12], 'f16', true);
  const inputs = { x, gate: gate?.matrix.tensor, up: up.matrix.tensor, down: down.matrix.tensor };
  const attempt = (change: object): Promise<unknown> =>
    run(device, fusedMlp, { ...inputs, ...change }, { activation: 'silu' });
  await expect(attempt({ down: up.matrix.tensor })).rejects.toThrow(ShapeError);
  await expect(attempt({ gate: down.matrix.tensor })).rejects.toThrow(ShapeError);
  await expect(attempt({ gate: weightMatrix(random, [12, 16], 'bf16').tensor })).rejects.toThrow(/one dtype/);
  await expect(attempt({ normWeight: normalTensor(random, [16]) })).rejects.toThrow(/rmsNorm/);
});
