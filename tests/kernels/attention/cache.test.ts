// The kinds of caches that both kernels of attention read: q8, and pages of any size.
import type { CacheDtype, ForcedChoices, HostTensor } from '@mambalab/kernels';
import { ArgumentError, attentionStep, Executor, flashAttention, run, ShapeError } from '@mambalab/kernels';
import { attentionStep as stepReference, flashAttention as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, pagesFor, withCapacity } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// As for flashAttention: what a cache rounds is the same on both sides.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

interface Case {
  readonly cache: CacheDtype;
  readonly headDim: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Tokens of each sequence; the rest of the capacity is NaN. */
  readonly valid: readonly number[];
  readonly capacity: number;
  readonly pageSize?: number | undefined;
}

/** Keys and values of a case as the GPU has them, and the values that they then hold. */
function cachesOf(random: Random, { cache, headDim, kvHeads, valid, capacity, pageSize }: Case) {
  const batch = valid.length;
  const width = kvHeads * headDim;
  const paged = pageSize === undefined ? undefined : pagesFor(random, valid, capacity, pageSize);
  const shape =
    paged === undefined ? [batch, capacity, kvHeads, headDim] : [paged.pages, pageSize ?? 0, kvHeads, headDim];
  const one = () => {
    const rows = withCapacity(random.normals(valid.reduce((a, b) => a + b) * width), batch, valid, capacity);
    return cacheTensor(paged?.values(rows) ?? rows, shape, cache);
  };
  const [k, v] = [one(), one()];
  return {
    inputs: { k: k.host, v: v.host, ...(paged && { pages: paged.table }) },
    values: { k: k.values, v: v.values, pages: paged?.table.data },
  };
}

type StepCase = Omit<Case, 'valid'> & { readonly splits: number };

const position = (values: readonly number[]): HostTensor => ({
  data: Uint32Array.from(values),
  shape: [values.length],
  dtype: 'u32',
});

describe('flashAttention', () => {
  it.each<Omit<Case, 'valid'>>([
    { cache: 'q8', headDim: 192, heads: 4, kvHeads: 1, capacity: 80 },
    { cache: 'q8', headDim: 32, heads: 2, kvHeads: 1, capacity: 96, pageSize: 16 },
    { cache: 'q8', headDim: 32, heads: 2, kvHeads: 1, capacity: 128, pageSize: 128 },
    { cache: 'f16', headDim: 16, heads: 4, kvHeads: 2, capacity: 75, pageSize: 1 },
    { cache: 'f16', headDim: 16, heads: 4, kvHeads: 2, capacity: 80, pageSize: 16 },
  ])('reads %o', async (sizes) => {
    const random = new Random(sizes.capacity);
    const { heads, headDim, kvHeads, capacity, pageSize } = sizes;
    const [length, positions] = [7, [0, 63]];
    const { inputs, values } = cachesOf(random, { ...sizes, valid: positions.map((start) => start + length) });
    const q = normalTensor(random, [2, length, heads, headDim]);
    for (const options of [{}, { window: 20, causal: false }]) {
      const y = await run(device, flashAttention, { q, ...inputs, position: position(positions) }, options, {
        executor,
      });
      const shape = { batch: 2, length, capacity, heads, kvHeads, headDim, pageSize };
      expectClose(
        y.data,
        reference({ q: q.data, ...values, position: positions }, { ...shape, ...options }),
        TOLERANCE,
      );
    }
  });
});

async function expectStep({ splits, ...sizes }: StepCase, force: ForcedChoices): Promise<void> {
  const random = new Random(sizes.capacity);
  const { heads, headDim, kvHeads, capacity, pageSize } = sizes;
  const positions = [332, 0, 64];
  const { inputs, values } = cachesOf(random, { ...sizes, valid: positions.map((at) => at + 1) });
  const q = normalTensor(random, [3, heads, headDim]);
  for (const options of [{}, { window: 100 }]) {
    const given = { q, ...inputs, position: position(positions) };
    const y = await run(device, attentionStep, given, { splits, ...options }, { executor, force });
    const shape = { batch: 3, capacity, heads, kvHeads, headDim, pageSize };
    const expected = stepReference({ q: q.data, ...values, position: positions }, { ...shape, ...options });
    expectClose(y.data, expected, TOLERANCE);
  }
}

describe.each(simdChoices(device))('attentionStep %o', (force) => {
  it.each<StepCase>([
    { cache: 'q8', headDim: 32, heads: 4, kvHeads: 2, capacity: 336, splits: 3, pageSize: 16 },
    { cache: 'q8', headDim: 32, heads: 4, kvHeads: 2, capacity: 384, splits: 3, pageSize: 128 },
    { cache: 'f16', headDim: 16, heads: 4, kvHeads: 2, capacity: 333, splits: 1, pageSize: 1 },
    { cache: 'f16', headDim: 16, heads: 4, kvHeads: 2, capacity: 336, splits: 1, pageSize: 16 },
  ])('reads %o', async (sizes) => {
    await expectStep(sizes, force);
  });
});

it('attentionStep reads a q8 cache without pages', async () => {
  await expectStep({ cache: 'q8', headDim: 96, heads: 4, kvHeads: 1, capacity: 333, splits: 1 }, {});
});

it('refuses caches that it cannot read', async () => {
  const random = new Random(1);
  const attempt = (headDim: number, shape: number[], given: Record<string, HostTensor>, dtype: CacheDtype = 'f32') => {
    const k = cacheTensor(new Float32Array(shape.reduce((a, b) => a * b)), shape, dtype).host;
    const v = given['v'] ?? k;
    const both = { q: normalTensor(random, [1, 2, headDim]), k, ...given, v, position: position([0]) };
    return run(device, attentionStep, both, {});
  };
  const table = (...shape: number[]): HostTensor => ({
    data: new Uint32Array(shape.reduce((a, b) => a * b)),
    shape,
    dtype: 'u32',
  });
  await expect(attempt(8, [3, 12, 1, 8], { pages: table(1, 2) })).rejects.toThrow(ArgumentError);
  await expect(attempt(8, [3, 16, 1, 8], { pages: table(2, 2) })).rejects.toThrow(ShapeError);
  await expect(attempt(8, [3, 16, 1, 8], { pages: normalTensor(random, [1, 2]) })).rejects.toThrow(ShapeError);
  await expect(attempt(8, [2, 16, 1, 8], {})).rejects.toThrow(ShapeError);
  await expect(attempt(32, [1, 4, 2, 32], { v: table(1, 4, 2, 32) }, 'q8')).rejects.toThrow(ShapeError);
  // A block of 32 values would span two heads.
  const k: HostTensor = { data: new Uint32Array(96), shape: [1, 8, 2, 16], dtype: 'q8', rowStride: 32 };
  const x = normalTensor(random, [1, 2, 16]);
  await expect(run(device, attentionStep, { q: x, k, v: k, position: position([0]) }, {})).rejects.toThrow(
    ArgumentError,
  );
});
