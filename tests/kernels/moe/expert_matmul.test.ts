import type { Device, ExpertMatmulOptions } from '@mambalab/kernels';
import {
  ArgumentError,
  Executor,
  expertMatmul,
  expertMatvec,
  namedSize,
  Recording,
  run,
  ShapeError,
  TILES,
} from '@mambalab/kernels';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice } from '../../support/gpu.ts';
import type { MatrixDtype } from '../../support/matrices.ts';
import { spacedRows } from '../../support/matrices.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';
import type { HostIndices } from './support.ts';
import { drawExperts, expectExpertProduct, expertWeights, withRouting } from './support.ts';

// f32 sums in another order than the reference's: 1e-5 of the sum of magnitudes (see expectExpertProduct).
const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const kernel = withRouting(expertMatmul, true);

interface Given {
  readonly dtype: MatrixDtype;
  readonly paired?: boolean;
  readonly indices?: HostIndices;
  readonly options?: ExpertMatmulOptions & { readonly activation?: Activation };
  readonly on?: Device;
}

async function expectAgreement(
  [rows, slots, experts, inner, outputs]: readonly [number, number, number, number, number],
  { dtype, paired = false, options = {}, ...given }: Given,
): Promise<void> {
  const random = new Random(rows * 1009 + inner * 31 + outputs);
  const x = normalTensor(random, paired ? [rows, slots, inner] : [rows, inner]);
  const weight = expertWeights(random, [experts, outputs, inner], dtype);
  const indices = given.indices ?? drawExperts(random, [rows, slots, experts]);
  const { on } = given;
  const settings = on === undefined ? { poison: true, executor } : { poison: true };
  const y = await run(on ?? device, kernel, { x, weight: weight.tensor, indices }, options, settings);
  expect(y.shape).toEqual([rows, slots, outputs]);
  const sizes = { rows, slots, experts, inner, outputs, paired };
  const { activation } = options;
  expectExpertProduct(y.data, { x: x.data, weight: weight.values, indices: indices.data }, { ...sizes, activation });
}

/** So many pairs of each expert in turn, one a token. */
function pairsOf(counts: readonly number[]): HostIndices {
  const experts = counts.flatMap((count, expert) => Array.from({ length: count }, () => expert));
  // Tokens of one expert do not follow each other.
  const data = Uint32Array.from(experts, (_, i) => experts[(i * 7) % experts.length] ?? 0);
  return { data, shape: [experts.length, 1], dtype: 'u32' };
}

describe('expertMatmul with weights of every dtype', () => {
  it('has f32', async () => {
    await expectAgreement([9, 2, 4, 40, 66], { dtype: 'f32' });
  });

  it('has f16, and rows of any stride', async () => {
    await expectAgreement([1, 1, 1, 8, 1], { dtype: 'f16' });
    await expectAgreement([9, 2, 4, 40, 66], { dtype: 'f16' });
    await expectAgreement([9, 2, 4, 21, 7], { dtype: 'f16' });
  });

  it('has bf16, and a row for every pair', async () => {
    await expectAgreement([9, 2, 4, 40, 7], { dtype: 'bf16', paired: true });
  });

  it('has q8, and rows of any stride', async () => {
    for (const inner of [20, 32, 72]) await expectAgreement([9, 2, 4, inner, 66], { dtype: 'q8' });
    await expectAgreement([9, 2, 4, 33, 7], { dtype: 'q8' });
  });

  it('has q4, and a row for every pair', async () => {
    for (const inner of [20, 32, 72]) await expectAgreement([9, 2, 4, inner, 66], { dtype: 'q4', paired: true });
  });

  it.each(['q8', 'q4'] as const)('has the tiles of GPUs for %s', async (dtype) => {
    await expectAgreement([9, 2, 4, 40, 66], { dtype, on: asHardware(device) });
  });
});

describe('expertMatmul', () => {
  // Both sides of every edge, experts without any token first, last and in between.
  it.each([
    ['16x64', 'f16', [0, 16, 0, 17, 1, 15, 33, 0]],
    ['32x64', 'q8', [31, 0, 32, 33, 0, 66, 0]],
    ['64x64', 'q4', [0, 0, 63, 64, 65]],
  ] as const)('has tiles of %s for %s', async (name, dtype, counts) => {
    const indices = pairsOf(counts);
    // The number of pairs must not be a multiple of 7 for the shuffle to reach all.
    const rows = indices.data.length;
    expect(rows % 7).not.toBe(0);
    const options = { tile: TILES[name] };
    await expectAgreement([rows, 1, counts.length, 48, 5], { dtype, indices, options });
  });

  it('has all tokens on one expert, and 8 experts of a token', async () => {
    const indices = { data: new Uint32Array(40).fill(2), shape: [20, 2], dtype: 'u32' as const };
    for (const dtype of ['f16', 'q8'] as const) await expectAgreement([20, 2, 4, 16, 65], { dtype, indices });
    await expectAgreement([10, 8, 9, 17, 5], { dtype: 'f16', options: { activation: 'gelu' } });
  });

  it('gives what expertMatvec gives', async () => {
    const random = new Random(12);
    const inputs = {
      x: normalTensor(random, [8, 24]),
      weight: expertWeights(random, [6, 10, 24], 'f16').tensor,
      indices: drawExperts(random, [8, 3, 6], [2]),
    };
    const few = await run(device, withRouting(expertMatvec, false), inputs, {}, { poison: true, executor });
    const many = await run(device, kernel, inputs, {}, { poison: true, executor });
    expectClose(many.data, few.data, { rtol: 1e-5, atol: 1e-5 });
  });

  it('keeps NaN behind rows out of the sums', async () => {
    const random = new Random(4);
    const [rows, slots, experts, inner, outputs] = [9, 2, 3, 21, 5];
    const x = normalTensor(random, [rows, inner]);
    const weight = expertWeights(random, [experts, outputs, inner], 'f16');
    const indices = drawExperts(random, [rows, slots, experts]);
    const inputs = { x: spacedRows(x.data, inner, 24), weight: weight.tensor, indices };
    const y = await run(device, kernel, inputs, {}, { poison: true, executor });
    const sizes = { rows, slots, experts, inner, outputs };
    expectExpertProduct(y.data, { x: x.data, weight: weight.values, indices: indices.data }, sizes);
  });

  it('runs one recording for many lengths', async () => {
    const [most, slots, experts, inner, outputs] = [20, 2, 5, 16, 6];
    const random = new Random(6);
    const length = namedSize('length', most);
    const recording = new Recording(device.capabilities);
    const weight = expertWeights(random, [experts, outputs, inner], 'f16');
    const refs = {
      x: recording.external('x', 'f32', [length, inner]),
      weight: recording.external('weight', 'f16', [experts, outputs, inner]),
      indices: recording.external('indices', 'u32', [length, slots]),
    };
    recording.keep('y', kernel(recording, refs, {}));
    const plan = await executor.compile(recording);
    const x = normalTensor(random, [most, inner]);
    const indices = drawExperts(random, [most, slots, experts]);
    const host = { x, weight: weight.tensor, indices };
    const bound = plan.bind(
      Object.fromEntries(Object.entries(host).map(([name, tensor]) => [name, device.upload(name, tensor)])),
    );
    for (const rows of [20, 1, 17]) {
      bound.submit({ length: rows });
      const read = await device.read(plan.output('y'));
      const stride = read.rowStride ?? outputs;
      const values = read.data.subarray(0, rows * slots * stride).filter((_, i) => i % stride < outputs);
      const used = { x: x.data.subarray(0, rows * inner), indices: indices.data.subarray(0, rows * slots) };
      expectExpertProduct(values, { ...used, weight: weight.values }, { rows, slots, experts, inner, outputs });
    }
    plan.dispose();
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
    await expect(attempt({ x: normalTensor(random, [3, 16]) })).rejects.toThrow(ShapeError);
    await expect(run(device, withRouting(expertMatmul, false), inputs, {})).rejects.toThrow(/moeSort/);
    await expect(attempt({}, { tile: TILES['128x128'] })).rejects.toThrow(ArgumentError);
    await expect(attempt({}, { tile: { ...TILES['64x64'], THREADS_M: 2 } })).rejects.toThrow(ArgumentError);
    await expect(attempt({}, { activation: 'swish' })).rejects.toThrow(ArgumentError);
    const recording = new Recording(device.capabilities);
    const wrong = {
      indices: recording.external('indices', 'u32', [9, 2]),
      weights: recording.external('weights', 'f32', [9, 2]),
      order: recording.external('order', 'u32', [9, 2]),
      offsets: recording.external('offsets', 'u32', [4]),
    };
    const x = recording.external('x', 'f32', [9, 16]);
    const weight = recording.external('weight', 'f16', [4, 12, 16]);
    expect(() => expertMatmul(recording, { x, weight, routing: wrong })).toThrow(/'offsets' must have the shape \(5\)/);
    // 512 experts of 4096 by 4096: two to the thirty-third.
    const huge = recording.external('huge', 'f16', [512, 4096, 4096]);
    const wide = recording.external('wide', 'f32', [9, 4096]);
    expect(() => expertMatmul(recording, { x: wide, weight: huge, routing: wrong })).toThrow(
      /'weight' lies in a tensor of 8589934592 values/,
    );
  });
});
