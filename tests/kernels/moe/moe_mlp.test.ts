import type { Device, HostTensor, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  moeMlp,
  moeRoute,
  namedSize,
  packMatrix,
  Recording,
  reshape,
  rowsOf,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { moeMlp as reference, moeRoute as routeReference, rmsNorm } from '@mambalab/kernels/reference';
import type { Activation } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { MatrixDtype } from '../../support/matrices.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';
import type { HostIndices, LayerRefs, LayerSizes } from './support.ts';
import { drawLayer, expertWeights, routedLayer } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Two products of f32 sums, then up to 8 of them added: errors of 1e-6 of a sum meet magnitudes of order 1.
const TOLERANCE = { rtol: 2e-5, atol: 2e-5 };

async function expectAgreement(
  sizes: LayerSizes,
  given: {
    readonly dtype: MatrixDtype;
    readonly downDtype?: MatrixDtype;
    readonly gated: boolean;
    readonly activation?: Activation;
    readonly force?: Record<string, string>;
    readonly residual?: boolean;
    readonly scale?: number;
    readonly norm?: boolean;
    readonly indices?: HostIndices;
    readonly on?: Device;
  },
): Promise<void> {
  const { rows, width } = sizes;
  const { dtype, downDtype, gated, activation = 'silu', force = {}, norm = false, on } = given;
  const random = new Random(rows * 1009 + width * 31 + sizes.hidden);
  const { x, gate, up, down, weights, shrink, ...drawn } = drawLayer(random, sizes, dtype, gated, downDtype);
  const indices = given.indices ?? drawn.indices;
  const scale = (given.scale ?? 1) * shrink;
  const residual = given.residual === true ? normalTensor(random, [rows, width]) : undefined;
  const normWeight = norm ? normalTensor(random, [width], 1 / Math.sqrt(width)) : undefined;
  const inputs = {
    x,
    indices,
    weights,
    up: up.tensor,
    down: down.tensor,
    ...(gate && { gate: gate.tensor }),
    ...(residual && { residual }),
    ...(normWeight && { normWeight }),
  };
  const options = { activation, scale, normEps: 1e-3 };
  const settings = on === undefined ? { force, poison: true, executor } : { force, poison: true };
  const y = await run(on ?? device, routedLayer, inputs, options, settings);
  expect(y.shape).toEqual([rows, width]);
  const normalised =
    normWeight === undefined ? x.data : rmsNorm({ x: x.data, weight: normWeight.data }, { rows, width, eps: 1e-3 });
  const expected = reference(
    {
      x: normalised,
      indices: indices.data,
      weights: weights.data,
      gate: gate?.values,
      up: up.values,
      down: down.values,
      residual: residual?.data,
    },
    { ...sizes, activation, scale },
  );
  expectClose(y.data, expected, TOLERANCE);
}

describe.each(simdChoices(device))('moeMlp for few tokens %o', (force) => {
  it('has f32 weights', async () => {
    await expectAgreement(
      { rows: 1, slots: 2, experts: 4, width: 40, hidden: 21 },
      { dtype: 'f32', gated: true, force },
    );
  });

  it('has f16 weights and a residual', async () => {
    const sizes = { rows: 3, slots: 3, experts: 5, width: 20, hidden: 70 };
    await expectAgreement(sizes, { dtype: 'f16', gated: true, force, residual: true });
  });

  it('has bf16 weights and no gate', async () => {
    const sizes = { rows: 2, slots: 3, experts: 5, width: 21, hidden: 34 };
    await expectAgreement(sizes, { dtype: 'bf16', gated: false, activation: 'relu2', force, scale: 0.5 });
  });

  it('normalises x on the way', async () => {
    const sizes = { rows: 5, slots: 1, experts: 3, width: 72, hidden: 33 };
    await expectAgreement(sizes, { dtype: 'f16', gated: true, force, norm: true, residual: true });
  });

  it('has q8 weights, down in q4, and normalises x', async () => {
    const sizes = { rows: 2, slots: 3, experts: 4, width: 41, hidden: 300 };
    await expectAgreement(sizes, { dtype: 'q8', downDtype: 'q4', gated: true, force, norm: true, residual: true });
  });

  it('has q4 weights, down in q8, and no gate', async () => {
    const sizes = { rows: 1, slots: 3, experts: 4, width: 72, hidden: 66 };
    const given = { dtype: 'q4', downDtype: 'q8', gated: false, force } as const;
    await expectAgreement(sizes, { ...given, activation: 'relu2', scale: -0.5 });
  });
});

it('takes 8 tokens with 8 experts each', async () => {
  const sizes = { rows: 8, slots: 8, experts: 9, width: 16, hidden: 12 };
  await expectAgreement(sizes, { dtype: 'f16', gated: true });
});

// Few outputs have a workgroup each, many share one in fours.
it.each([
  ['f16', { rows: 1, slots: 2, experts: 4, width: 72, hidden: 40 }],
  ['q8', { rows: 8, slots: 2, experts: 4, width: 260, hidden: 132 }],
  ['q4', { rows: 8, slots: 2, experts: 4, width: 260, hidden: 132 }],
] as const)('has the workgroups of GPUs for %s', async (dtype, sizes) => {
  await expectAgreement(sizes, { dtype, gated: true, residual: true, norm: true, on: asHardware(device) });
});

describe('moeMlp for many tokens', () => {
  it('has f16 weights', async () => {
    const sizes = { rows: 18, slots: 3, experts: 5, width: 24, hidden: 70 };
    await expectAgreement(sizes, { dtype: 'f16', gated: true, residual: true, scale: 0.5 });
  });

  it('has bf16 weights, no gate, and rows of any stride', async () => {
    const sizes = { rows: 9, slots: 2, experts: 4, width: 33, hidden: 30 };
    await expectAgreement(sizes, { dtype: 'bf16', gated: false, activation: 'relu2', residual: true });
  });

  it('has q8 weights, down in f32', async () => {
    const sizes = { rows: 10, slots: 2, experts: 4, width: 24, hidden: 35 };
    await expectAgreement(sizes, { dtype: 'q8', downDtype: 'f32', gated: true, residual: true });
  });

  it('has f32 weights, and tiles for more tokens of an expert, all of them on one', async () => {
    await expectAgreement({ rows: 35, slots: 1, experts: 1, width: 16, hidden: 66 }, { dtype: 'f32', gated: true });
    const indices = { data: new Uint32Array(70).fill(1), shape: [35, 2], dtype: 'u32' as const };
    const sizes = { rows: 35, slots: 2, experts: 2, width: 16, hidden: 12 };
    await expectAgreement(sizes, { dtype: 'f32', gated: true, indices });
  });
});

it.each(['f16', 'q4'] as const)('reads gates in %s that lie before their ups, or between others', async (dtype) => {
  for (const rows of [2, 9]) {
    const sizes = { rows, slots: 2, experts: 3, width: 40, hidden: 10 };
    const random = new Random(rows);
    const { x, gate, up, down, indices, weights, shrink } = drawLayer(random, sizes, dtype, true);
    const common = { x, indices, weights, down: down.tensor };
    const options = { activation: 'silu', scale: shrink } as const;
    const settings = { poison: true, executor };
    const apart = { ...common, up: up.tensor, ...(gate && { gate: gate.tensor }) };
    const expected = await run(device, routedLayer, apart, options, settings);
    // Values of either become the same values of both.
    const part = sizes.hidden * sizes.width;
    const both = Array.from({ length: sizes.experts }, (_, e) =>
      [gate, up].flatMap((matrix) => Array.from(matrix?.values.subarray(e * part, (e + 1) * part) ?? [])),
    );
    const gateUp = packMatrix(both.flat(), [sizes.experts, 2 * sizes.hidden, sizes.width], dtype);
    const y = await run(device, routedLayer, { ...common, gateUp }, options, settings);
    expectSameBits(y.data, expected.data);
    // A gate between other experts, in a tensor whose scales begin elsewhere.
    const others = Array.from({ length: part }, () => 1);
    const values = [...others, ...Array.from(gate?.values ?? []), ...others];
    const long = packMatrix(values, [sizes.experts + 2, sizes.hidden, sizes.width], dtype);
    const cut = (recording: Recording, given: LayerRefs & { readonly long: TensorRef }): TensorRef => {
      const lines = reshape(given.long, [(sizes.experts + 2) * sizes.hidden, sizes.width]);
      const inside = rowsOf(lines, sizes.hidden, sizes.experts * sizes.hidden);
      return routedLayer(recording, { ...given, gate: reshape(inside, up.tensor.shape) }, options);
    };
    const { data } = await run(device, cut, { ...common, up: up.tensor, long }, undefined, settings);
    expectSameBits(data, expected.data);
  }
});

it('runs behind moeRoute on columns of a wider tensor, for many lengths', async () => {
  const sizes = { slots: 2, experts: 5, width: 12, hidden: 8 };
  const [most, wide, from] = [12, 27, 5];
  const random = new Random(8);
  const length = namedSize('length', most);
  const { up, down, gate, shrink } = drawLayer(random, { rows: most, ...sizes }, 'f16', true);
  const recording = new Recording(device.capabilities);
  const matrix = (name: string, tensor: HostTensor): TensorRef =>
    recording.external(name, tensor.dtype, tensor.shape, tensor.rowStride);
  const input = recording.external('input', 'f32', [length, wide]);
  const y = moeMlp(
    recording,
    {
      x: columns(input, from, from + sizes.width),
      routing: moeRoute(recording, { logits: columns(input, 20, 25) }, { topK: 2, normalize: true }),
      gateUp: undefined,
      gate: matrix('gate', gate?.tensor ?? up.tensor),
      up: matrix('up', up.tensor),
      down: matrix('down', down.tensor),
      residual: recording.external('residual', 'f32', [length, sizes.width], 13),
    },
    { activation: 'silu', scale: shrink },
  );
  expect(y.storage.name).toBe('residual');
  const plan = await executor.compile(recording);
  const values = normalTensor(random, [most, wide]);
  const residual = { ...normalTensor(random, [most, 13]), shape: [most, sizes.width], rowStride: 13 };
  const host = { input: values, gate: gate?.tensor ?? up.tensor, up: up.tensor, down: down.tensor };
  const uploaded = Object.fromEntries(
    Object.entries(host).map(([name, tensor]) => [name, device.upload(name, tensor)]),
  );
  for (const rows of [12, 1, 9]) {
    const target = device.upload('residual', residual);
    plan.bind({ ...uploaded, residual: target }).submit({ length: rows });
    const read = await device.read(target);
    const part = (first: number, end: number): Float32Array =>
      values.data.subarray(0, rows * wide).filter((_, i) => i % wide >= first && i % wide < end);
    const inside = (data: ArrayLike<number>): number[] =>
      Array.from(data)
        .slice(0, rows * 13)
        .filter((_, i) => i % 13 < sizes.width);
    const route = { rows, experts: sizes.experts, topK: 2, normalize: true };
    const { indices, weights } = routeReference({ logits: part(20, 25) }, route);
    const expected = reference(
      {
        x: part(from, from + sizes.width),
        indices,
        weights,
        gate: gate?.values,
        up: up.values,
        down: down.values,
        residual: inside(residual.data),
      },
      { rows, ...sizes, activation: 'silu', scale: shrink },
    );
    expectClose(inside(read.data), expected, TOLERANCE);
    // What lies between the rows and behind the last one stays.
    const outside = (data: ArrayLike<number>): number[] =>
      Array.from(data).filter((_, i) => i >= rows * 13 || i % 13 === 12);
    expectSameBits(outside(read.data), outside(residual.data));
  }
  plan.dispose();
});

it('refuses what does not fit', async () => {
  const random = new Random(1);
  const { x, gate, up, down, indices, weights } = drawLayer(
    random,
    { rows: 9, slots: 2, experts: 3, width: 16, hidden: 12 },
    'f16',
    true,
  );
  const inputs = { x, up: up.tensor, down: down.tensor, indices, weights, ...(gate && { gate: gate.tensor }) };
  const attempt = (change: object, options: object = {}): Promise<unknown> =>
    run(device, routedLayer, { ...inputs, ...change }, { activation: 'silu', ...options });
  await expect(attempt({ down: up.tensor })).rejects.toThrow(ShapeError);
  await expect(attempt({ gate: down.tensor })).rejects.toThrow(ShapeError);
  await expect(attempt({ gate: expertWeights(random, [3, 12, 16], 'bf16').tensor })).rejects.toThrow(/one dtype/);
  const blocks = {
    up: expertWeights(random, [3, 12, 16], 'q8').tensor,
    gate: expertWeights(random, [3, 12, 16], 'q4').tensor,
  };
  await expect(attempt(blocks)).rejects.toThrow(/one dtype; found q4 and q8/);
  await expect(attempt({ gate: { ...blocks.gate, rowStride: 24 } })).rejects.toThrow(
    /rows of 'gate' .* multiples of 32/,
  );
  await expect(attempt({ down: { ...down.tensor, rowStride: 12 } })).rejects.toThrow(
    /rows of 'down' .* multiples of 8/,
  );
  await expect(attempt({ normWeight: normalTensor(random, [16]) })).rejects.toThrow(/rmsNorm/);
  await expect(attempt({ up: undefined, gate: undefined })).rejects.toThrow(ArgumentError);
  await expect(attempt({ gateUp: up.tensor })).rejects.toThrow(ArgumentError);
  const odd = expertWeights(random, [3, 13, 16], 'f16').tensor;
  await expect(attempt({ up: undefined, gate: undefined, gateUp: odd })).rejects.toThrow(/odd/);
  await expect(attempt({ weights: normalTensor(random, [9, 3]) })).rejects.toThrow(ShapeError);
  await expect(attempt({ x: normalTensor(random, [9, 2, 16]) })).rejects.toThrow(ShapeError);
  await expect(attempt({}, { activation: 'swish' })).rejects.toThrow(ArgumentError);
  const unsorted = (recording: Recording, given: LayerRefs): TensorRef =>
    moeMlp(recording, { ...given, routing: given }, { activation: 'silu' });
  await expect(run(device, unsorted, inputs, undefined)).rejects.toThrow(/moeSort/);
});
