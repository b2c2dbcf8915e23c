import type { ExpertMatvecOptions, HostTensor } from '@mambalab/kernels';
import { ArgumentError, Executor, expertMatvec, run, ShapeError } from '@mambalab/kernels';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { WeightDtype } from '../../support/matrices.ts';
import { spacedRows } from '../../support/matrices.ts';
import { normalTensor, Random } from '../../support/numbers.ts';
import { drawExperts, expectExpertProduct, expertWeights, withRouting } from './support.ts';

// f32 sums in another order than the reference's: 1e-5 of the sum of magnitudes (see expectExpertProduct).
const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const kernel = withRouting(expertMatvec, false);

interface Given {
  readonly dtype: WeightDtype;
  readonly paired?: boolean;
  readonly force?: Record<string, string>;
  readonly indices?: HostTensor & { readonly data: Uint32Array };
  readonly options?: ExpertMatvecOptions & { readonly activation?: Activation };
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
  const y = await run(device, kernel, inputs, options, { force, poison: true, executor });
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

  it('has workgroups of other shapes', async () => {
    const shape = { WORKGROUP_SIZE: 32, ROWS: 1 } as const;
    await expectAgreement([1, 2, 3, 530, 3], { dtype: 'f16', force, options: { shape } });
  });
});

it('takes 8 tokens, 8 experts of a token, all of one expert', async () => {
  await expectAgreement([8, 8, 9, 16, 5], { dtype: 'f16' });
  const indices = { data: new Uint32Array(16).fill(6), shape: [8, 2], dtype: 'u32' as const };
  await expectAgreement([8, 2, 7, 16, 6], { dtype: 'f16', indices });
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
  await expect(attempt({ indices: normalTensor(random, [2, 2]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ indices: drawExperts(random, [2, 33, 40]) })).rejects.toThrow(/up to 32 experts/);
  const many = { x: normalTensor(random, [9, 16]), indices: drawExperts(random, [9, 2, 4]) };
  await expect(attempt(many)).rejects.toThrow(/up to 8 rows/);
  await expect(attempt({}, { activation: 'swish' })).rejects.toThrow(ArgumentError);
});
