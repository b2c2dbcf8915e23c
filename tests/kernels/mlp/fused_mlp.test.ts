import { ArgumentError, Executor, fusedMlp, namedSize, Recording, run, ShapeError } from '@mambalab/kernels';
import { fusedMlp as reference } from '@mambalab/kernels/reference';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { hasMatrixUnits, openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { MatrixDtype } from '../../support/matrices.ts';
import { spacedRows, WEIGHT_DTYPES, weightMatrix } from '../../support/matrices.ts';
import type { Tolerance } from '../../support/numbers.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Two products of f32 sums: errors of 1e-6 of a sum meet the next product's magnitudes; values here are of order 1.
const TOLERANCE = { rtol: 2e-5, atol: 2e-5 };

/** Weights whose products stay of order 1. */
function layer(
  random: Random,
  [rows, width, hidden]: readonly [number, number, number],
  dtype: MatrixDtype,
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
    readonly dtype: MatrixDtype;
    readonly gated: boolean;
    readonly activation?: Activation;
    readonly force?: Record<string, string>;
    readonly residual?: boolean;
    readonly scale?: number;
    readonly norm?: boolean;
    /** Biases of the gate, where there is one, of up and of down. */
    readonly biases?: boolean;
    readonly tolerance?: Tolerance;
  },
): Promise<void> {
  const [rows, width, hidden] = sizes;
  const { dtype, gated, activation = 'silu', force = {}, tolerance = TOLERANCE } = given;
  const random = new Random(rows * 1009 + width * 31 + hidden);
  const { x, gate, up, down } = layer(random, sizes, dtype, gated);
  const vector = (wanted: boolean | undefined, size: number) =>
    wanted === true ? normalTensor(random, [size], 1 / Math.sqrt(width)) : undefined;
  const residual = given.residual === true ? normalTensor(random, [rows, width]) : undefined;
  const vectors = Object.fromEntries(
    Object.entries({
      normWeight: vector(given.norm, width),
      gateBias: vector(given.biases === true && gated, hidden),
      upBias: vector(given.biases, hidden),
      downBias: vector(given.biases, width),
    }).flatMap(([name, tensor]) => (tensor === undefined ? [] : [[name, tensor] as const])),
  );
  const inputs = {
    x,
    up: up.matrix.tensor,
    down: down.matrix.tensor,
    ...(gate && { gate: gate.matrix.tensor }),
    ...(residual && { residual }),
    ...vectors,
  };
  const scale = (given.scale ?? 1) * down.shrink;
  const options = { activation, scale, normEps: 1e-3, normWeightOffset: (rows % 2) / width };
  const y = await run(device, fusedMlp, inputs, options, { force, poison: true, executor });
  expect(y.shape).toEqual([rows, width]);
  const expected = reference(
    {
      x: x.data,
      gate: gate?.matrix.values,
      up: up.matrix.values,
      down: down.matrix.values,
      residual: residual?.data,
      ...Object.fromEntries(Object.entries(vectors).map(([name, tensor]) => [name, tensor.data])),
    },
    { rows, width, hidden, ...options },
  );
  expectClose(y.data, expected, tolerance);
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

  it('has q8 weights and biases, and normalises', async () => {
    const given = { dtype: 'q8', gated: true, force, norm: true, biases: true, scale: -2 } as const;
    await expectAgreement([3, 40, 33], given);
  });

  it('has q4 weights and biases without a gate', async () => {
    const given = { dtype: 'q4', gated: false, force, biases: true, residual: true, activation: 'geluTanh' } as const;
    await expectAgreement([1, 72, 33], given);
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

  it('has q8 weights and biases, and normalises', async () => {
    const given = { dtype: 'q8', gated: true, norm: true, biases: true, residual: true } as const;
    await expectAgreement([35, 41, 33], given);
  });

  it('has q4 weights and biases, and normalises, without a gate', async () => {
    const given = { dtype: 'q4', gated: false, norm: true, biases: true, activation: 'gelu' } as const;
    await expectAgreement([10, 24, 66], given);
  });
});

// Where the device has matrix units: x and h are rounded to f16, quants times their scales too.
describe.runIf(hasMatrixUnits(device))('fusedMlp on matrix units', () => {
  const force = { unit: 'matrix' };
  const tolerance = { rtol: 2e-3, atol: 4e-3 };

  it.each(['f16', 'q8', 'q4'] as const)('has %s weights', async (dtype) => {
    await expectAgreement([70, 40, 90], { dtype, gated: true, force, tolerance, residual: true, scale: 0.5 });
    await expectAgreement([33, 77, 65], { dtype, gated: false, force, tolerance });
  });

  it('normalises x on the way, and has biases', async () => {
    await expectAgreement([67, 45, 61], { dtype: 'f16', gated: true, force, tolerance, norm: true, biases: true });
    await expectAgreement([34, 40, 70], { dtype: 'q4', gated: false, force, tolerance, norm: true, biases: true });
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
  await expect(attempt({ normWeight: normalTensor(random, [12]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ gateBias: normalTensor(random, [16]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ downBias: normalTensor(random, [12]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ gate: undefined, gateBias: normalTensor(random, [12]) })).rejects.toThrow(ArgumentError);
});
