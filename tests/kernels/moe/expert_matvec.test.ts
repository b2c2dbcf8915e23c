import type { Device, ExpertMatvecOptions, Recording, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, expertMatvec, reshape, rowsOf, run, ShapeError } from '@mambalab/kernels';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { MatrixDtype } from '../../support/matrices.ts';
import { spacedRows } from '../../support/matrices.ts';
import { normalTensor, Random } from '../../support/numbers.ts';
import type { HostIndices } from './support.ts';
import { drawExperts, expectExpertProduct, expertWeights, withRouting } from './support.ts';

// f32 sums in another order than the reference's: 1e-5 of the sum of magnitudes (see expectExpertProduct).
const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const kernel = withRouting(expertMatvec, false);

interface Given {
  readonly dtype: MatrixDtype;
  readonly paired?: boolean;
  readonly force?: Record<string, string>;
  readonly indices?: HostIndices;
  readonly options?: ExpertMatvecOptions & { readonly activation?: Activation };
  readonly on?: Device;
}

async function expectAgreement(
  [rows, slots, experts, inner, outputs]: readonly [number, number, number, number, number],
  { dtype, paired = false, force = {}, options = {}, ...given }: Given,
): Promise<void> {
  const random = new Random(rows * 1009 + inner * 31 + outputs);
  const x = normalTensor(random, paired ? [rows, slots, inner] : [rows, inner]);
  const weight = expertWeights(random, [experts, outputs, inner], dtype);
  const indices = given.indices ?? drawExperts(random, [rows, slots, experts]);
  const inputs = { x, weight: weight.tensor, indices };
  const { on } = given;
  const settings = on === undefined ? { force, poison: true, executor } : { force, poison: true };
  const y = await run(on ?? device, kernel, inputs, options, settings);
  expect(y.shape).toEqual([rows, slots, outputs]);
  const sizes = { rows, slots, experts, inner, outputs, paired };
  const { activation } = options;
  expectExpertProduct(y.data, { x: x.data, weight: weight.values, indices: indices.data }, { ...sizes, activation });
}

describe.each(simdChoices(device))('expertMatvec %o', (force) => {
  it('has f32 weights', async () => {
    await expectAgreement([1, 2, 4, 40, 21], { dtype: 'f32', force });
  });

  it('has f16 weights, and rows of any stride', async () => {
    await expectAgreement([1, 2, 4, 40, 21], { dtype: 'f16', force });
    await expectAgreement([3, 1, 5, 21, 10], { dtype: 'f16', force });
  });

  it('has bf16 weights, and a row for every pair', async () => {
    await expectAgreement([2, 3, 4, 72, 9], { dtype: 'bf16', force, paired: true });
  });

  it.each(['q8', 'q4'] as const)('has %s weights, and rows of any stride', async (dtype) => {
    for (const inner of [20, 32, 264]) await expectAgreement([2, 2, 4, inner, 9], { dtype, force });
    await expectAgreement([3, 1, 5, 33, 6], { dtype, force });
  });

  it('has workgroups of other shapes', async () => {
    const shape = { WORKGROUP_SIZE: 32, ROWS: 1, AHEAD: 1 } as const;
    await expectAgreement([1, 2, 3, 530, 3], { dtype: 'f16', force, options: { shape } });
  });
});

it.each(['q8', 'q4'] as const)('has the workgroups of GPUs for %s, and a row for every pair', async (dtype) => {
  const on = asHardware(device);
  await expectAgreement([1, 2, 3, 72, 5], { dtype, on, paired: true });
  // Pairs of loads without a mask, and a rest.
  const shape = { WORKGROUP_SIZE: 32, ROWS: 4, AHEAD: 2 } as const;
  await expectAgreement([1, 2, 3, 2152, 6], { dtype, on, paired: true, options: { shape } });
});

it.each(['q8', 'q4'] as const)('reads some experts of %s, and columns of their rows', async (dtype) => {
  const [rows, slots, outputs, inner] = [2, 2, 3, 64];
  const random = new Random(19);
  const x = normalTensor(random, [rows, inner]);
  const weight = expertWeights(random, [6, outputs, 160], dtype);
  const indices = drawExperts(random, [rows, slots, 4]);
  const part = (recording: Recording, inputs: Readonly<Record<'x' | 'all' | 'indices', TensorRef>>): TensorRef => {
    const lines = rowsOf(reshape(inputs.all, [6 * outputs, 160]), outputs, 4 * outputs);
    const four = reshape(columns(lines, 32, 32 + inner), [4, outputs, inner]);
    return kernel(recording, { ...inputs, weight: four }, {});
  };
  const y = await run(device, part, { x, all: weight.tensor, indices }, {}, { poison: true, executor });
  const values = weight.values
    .subarray(outputs * 160, 5 * outputs * 160)
    .filter((_, i) => i % 160 >= 32 && i % 160 < 32 + inner);
  const sizes = { rows, slots, experts: 4, inner, outputs };
  expectExpertProduct(y.data, { x: x.data, weight: values, indices: indices.data }, sizes);
});

it('takes 8 tokens, 8 experts of a token, all of one expert', async () => {
  await expectAgreement([8, 8, 9, 16, 5], { dtype: 'f16' });
  const indices = { data: new Uint32Array(16).fill(6), shape: [8, 2], dtype: 'u32' as const };
  await expectAgreement([8, 2, 7, 16, 6], { dtype: 'q4', indices });
});

// All of them are checked in matmul: the shaders share the functions and their numbers.
it.each(['silu', 'relu2'] as const)('applies %s', async (activation) => {
  await expectAgreement([1, 2, 3, 16, 7], { dtype: 'f32', options: { activation } });
});

it('keeps NaN behind rows out of the sums', async () => {
  const random = new Random(4);
  const [rows, slots, experts, inner, outputs] = [2, 2, 3, 21, 5];
  const x = normalTensor(random, [rows, inner]);
  const weight = expertWeights(random, [experts, outputs, inner], 'f16');
  const indices = drawExperts(random, [rows, slots, experts]);
  const inputs = { x: spacedRows(x.data, inner, 24), weight: weight.tensor, indices };
  const y = await run(device, kernel, inputs, {}, { poison: true, executor });
  const sizes = { rows, slots, experts, inner, outputs };
  expectExpertProduct(y.data, { x: x.data, weight: weight.values, indices: indices.data }, sizes);
});

it('refuses what does not fit', async () => {
  const random = new Random(1);
  const inputs = {
    x: normalTensor(random, [2, 16]),
    weight: expertWeights(random, [4, 12, 16], 'f16').tensor,
    indices: drawExperts(random, [2, 2, 4]),
  };
  const attempt = (change: object, options = {}): Promise<unknown> =>
    run(device, kernel, { ...inputs, ...change }, options);
  await expect(attempt({ x: normalTensor(random, [2, 24]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ x: normalTensor(random, [2, 3, 16]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ x: normalTensor(random, [3, 16]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ weight: { ...inputs.weight, shape: [48, 16] } })).rejects.toThrow(/\(E, N, K\)/);
  await expect(attempt({ weight: normalTensor(random, [4, 12, 17]) })).rejects.toThrow(/rows of 'weight'/);
  const wide = expertWeights(random, [4, 12, 96], 'q4').tensor;
  const between = (recording: Recording, given: Readonly<Record<'x' | 'wide' | 'indices', TensorRef>>): TensorRef => {
    const weight = reshape(columns(reshape(given.wide, [48, 96]), 8, 24), [4, 12, 16]);
    return kernel(recording, { ...given, weight }, {});
  };
  await expect(run(device, between, { x: inputs.x, wide, indices: inputs.indices }, {})).rejects.toThrow(
    /multiples of 32/,
  );
  await expect(attempt({ weight: { ...wide, shape: [4, 12, 16], rowStride: 48 } })).rejects.toThrow(/multiples of 32/);
  await expect(attempt({ indices: normalTensor(random, [2, 2]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ indices: drawExperts(random, [2, 33, 40]) })).rejects.toThrow(/up to 32 experts/);
  const many = { x: normalTensor(random, [9, 16]), indices: drawExperts(random, [9, 2, 4]) };
  await expect(attempt(many)).rejects.toThrow(/up to 8 rows/);
  await expect(attempt({}, { activation: 'swish' })).rejects.toThrow(ArgumentError);
});
