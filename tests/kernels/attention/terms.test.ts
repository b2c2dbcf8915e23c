// What both kernels of attention add to plain attention: ALiBi, a bias, sinks, a gate and packed sequences.
import type {
  AttentionStepInputs,
  FlashAttentionInputs,
  FlashAttentionOptions,
  HostTensor,
  Recording,
  TensorRef,
} from '@mambalab/kernels';
import {
  ArgumentError,
  attentionStep,
  columns,
  Executor,
  flashAttention,
  reshape,
  rowsOf,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { attentionStep as stepReference, flashAttention as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// As for flashAttention: scores in f32 are wrong by about 1e-6, and so are the weights, relatively.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

type Values = Partial<Record<'slopes' | 'bias' | 'sinks' | 'gate', HostTensor & { data: Float32Array }>>;
type Data = Partial<Record<keyof Values, Float32Array>>;
const dataOf = (values: Values): Data =>
  Object.fromEntries(Object.entries(values).map(([name, { data }]) => [name, data]));

const u32 = (...data: number[]): HostTensor => ({ data: Uint32Array.from(data), shape: [data.length], dtype: 'u32' });

/** The slopes of ALiBi with a largest bias of 8, as they decline over the heads. */
const alibi = (heads: number): HostTensor & { data: Float32Array } => ({
  data: Float32Array.from({ length: heads }, (_, h) => 2 ** ((-8 * (h + 1)) / heads)),
  shape: [heads],
  dtype: 'f32',
});

describe('flashAttention', () => {
  async function expectReference(
    sizes: { batch: number; length: number; capacity: number; heads: number; kvHeads: number; headDim: number },
    values: Values,
    options: FlashAttentionOptions = {},
    extra: { positions?: number[]; starts?: number[]; biasBatch?: number; biasHeads?: number } = {},
  ): Promise<void> {
    const { batch, length, capacity, heads, kvHeads, headDim } = sizes;
    const random = new Random(length * 7 + capacity);
    const q = normalTensor(random, [batch, length, heads, headDim]);
    const k = normalTensor(random, [batch, capacity, kvHeads, headDim]);
    const v = normalTensor(random, [batch, capacity, kvHeads, headDim]);
    const { positions, starts, ...bias } = extra;
    const inputs = {
      q,
      k,
      v,
      ...values,
      ...(positions && { position: u32(...positions) }),
      ...(starts && { starts: u32(...starts) }),
    };
    const y = await run(device, flashAttention, inputs, options, { executor });
    const expected = reference(
      { q: q.data, k: k.data, v: v.data, ...dataOf(values), position: positions, starts },
      { ...sizes, ...options, ...bias },
    );
    expectClose(y.data, expected, TOLERANCE);
  }
  const random = new Random(3);

  it.each<[string, FlashAttentionOptions, number[] | undefined]>([
    ['all keys', {}, undefined],
    ['positions, a window and a soft cap', { window: 30, softCap: 15 }, [25, 0]],
    ['keys ahead', { causal: false }, undefined],
  ])('lowers scores with the distance, with %s', async (_, options, positions) => {
    const sizes = { batch: 2, length: 20, capacity: 45, heads: 4, kvHeads: 2, headDim: 16 };
    await expectReference(sizes, { slopes: alibi(4) }, options, positions && { positions });
  });

  it.each([
    [2, 4],
    [1, 4],
    [2, 1],
    [1, 1],
  ])('adds a bias of %i sequences and %i heads, with slopes and sinks', async (biasBatch, biasHeads) => {
    const sizes = { batch: 2, length: 18, capacity: 40, heads: 4, kvHeads: 1, headDim: 32 };
    const bias = normalTensor(random, [biasBatch, biasHeads, 18, 40], 2);
    const values = { bias, slopes: alibi(4), sinks: normalTensor(random, [4], 3) };
    await expectReference(sizes, values, { softCap: 15 }, { biasBatch, biasHeads });
    await expectReference(sizes, values, {}, { biasBatch, biasHeads, positions: [7, 22] });
  });

  it('hides a key by its bias, and gives zero where all are hidden', async () => {
    const sizes = { batch: 1, length: 18, capacity: 40, heads: 2, kvHeads: 1, headDim: 32 };
    const values = { bias: normalTensor(random, [1, 1, 18, 40]), slopes: alibi(2), sinks: normalTensor(random, [2]) };
    for (const [i, low] of [-1e30, -3.4028234663852886e38].entries()) {
      for (let t = 0; t < 40; t += 3 - i) values.bias.data[t] = low;
    }
    values.bias.data.fill(-1e31, 40, 80);
    await expectReference(sizes, values, { causal: false }, { biasBatch: 1, biasHeads: 1 });
  });

  it('gives sinks their part, also where they are all or nothing', async () => {
    const sizes = { batch: 1, length: 9, capacity: 9, heads: 4, kvHeads: 4, headDim: 8 };
    const sinks = { data: Float32Array.of(0.5, -40, 60, 3), shape: [4], dtype: 'f32' as const };
    await expectReference(sizes, { sinks, gate: normalTensor(random, [1, 9, 4, 8], 4) });
    // The first queries see no key.
    const short = { ...sizes, capacity: 5 };
    await expectReference(short, { sinks, gate: normalTensor(random, [1, 9, 4, 8], 40) });
  });

  it.each<[string, FlashAttentionOptions]>([
    ['causal', {}],
    ['both ways', { causal: false }],
    ['in a window', { window: 6 }],
  ])('keeps packed sequences apart, %s', async (_, options) => {
    const sizes = { batch: 1, length: 100, capacity: 100, heads: 2, kvHeads: 1, headDim: 8 };
    // One of one token, an empty one, one over the edge of a tile of queries, and tokens of no sequence.
    for (const starts of [
      [0, 1, 31, 31, 70, 97],
      [0, 100],
      [3, 64, 100],
    ]) {
      await expectReference(sizes, {}, options, { starts });
    }
  });

  it('reads slopes and sinks of one tensor, and gates whose heads or tokens are strided', async () => {
    const [length, heads, headDim] = [5, 2, 16];
    const terms = normalTensor(random, [2, heads]);
    const q = normalTensor(random, [1, length, heads, headDim]);
    const wide = normalTensor(random, [length * heads, 2 * headDim]);
    const kernel = (
      recording: Recording,
      given: Omit<FlashAttentionInputs, 'gate'> & { wide: TensorRef; terms: TensorRef },
      { tokens }: { tokens: boolean },
    ): TensorRef => {
      const { wide: both, terms: pair, ...inputs } = given;
      // A query and its gate side by side, for each head or for all heads of a token.
      const rows = tokens ? reshape(both, [length, heads * 2 * headDim]) : both;
      const width = tokens ? heads * headDim : headDim;
      const contiguous = tokens ? { ...rows, rowWidth: 2 * width, rowStride: 2 * width } : rows;
      const gate = reshape(columns(contiguous, width, 2 * width), [1, length, heads, headDim]);
      const term = (n: number): TensorRef => reshape(rowsOf(pair, n, 1), [heads]);
      return flashAttention(recording, { ...inputs, gate, slopes: term(0), sinks: term(1) });
    };
    for (const tokens of [false, true]) {
      const y = await run(device, kernel, { q, k: q, v: q, wide, terms }, { tokens }, { executor });
      const gate = Float32Array.from({ length: q.data.length }, (_, i) => {
        const row = tokens ? heads * headDim : headDim;
        return wide.data[Math.floor(i / row) * 2 * row + row + (i % row)] ?? NaN;
      });
      const expected = reference(
        { q: q.data, k: q.data, v: q.data, gate, slopes: terms.data.slice(0, heads), sinks: terms.data.slice(heads) },
        { batch: 1, length, capacity: length, heads, kvHeads: heads, headDim },
      );
      expectClose(y.data, expected, TOLERANCE);
    }
  });

  it('refuses what does not go together', async () => {
    const x = normalTensor(random, [1, 4, 2, 8]);
    const attempt = (given: Record<string, HostTensor>): Promise<unknown> =>
      run(device, flashAttention, { q: x, k: x, v: x, ...given }, {});
    const wrong: [Record<string, HostTensor>, typeof ShapeError | typeof ArgumentError][] = [
      [{ slopes: normalTensor(random, [3]) }, ShapeError],
      [{ sinks: u32(1, 2) }, ShapeError],
      [{ bias: normalTensor(random, [1, 3, 4, 4]) }, ShapeError],
      [{ bias: normalTensor(random, [1, 2, 4, 5]) }, ShapeError],
      [{ gate: normalTensor(random, [1, 4, 2, 4]) }, ShapeError],
      [{ gate: x, bias: normalTensor(random, [1, 1, 4, 4]) }, ArgumentError],
      [{ starts: u32(0) }, ArgumentError],
      [{ starts: u32(0, 4), position: u32(0) }, ArgumentError],
      [
        { starts: u32(0, 3), k: normalTensor(random, [1, 3, 2, 8]), v: normalTensor(random, [1, 3, 2, 8]) },
        ArgumentError,
      ],
    ];
    for (const [given, error] of wrong) await expect(attempt(given)).rejects.toThrow(error);
  });
});

describe.each(simdChoices(device))('attentionStep %o', (force) => {
  it.each([1, 3])('adds slopes, sinks and a gate, in %i shares', async (splits) => {
    const random = new Random(11);
    const [batch, capacity, heads, kvHeads, headDim] = [2, 150, 4, 1, 32];
    const positions = [0, 140];
    const inputs = {
      q: normalTensor(random, [batch, heads, headDim]),
      k: normalTensor(random, [batch, capacity, kvHeads, headDim]),
      v: normalTensor(random, [batch, capacity, kvHeads, headDim]),
      slopes: alibi(heads),
      sinks: { data: Float32Array.of(0.5, -40, 60, 3), shape: [heads], dtype: 'f32' as const },
      wide: normalTensor(random, [batch * heads, 2 * headDim], 3),
    };
    // A query and its gate side by side
    const kernel = (
      recording: Recording,
      { wide, ...given }: Omit<AttentionStepInputs, 'gate'> & { wide: TensorRef },
      options: { splits: number; softCap?: number; window?: number },
    ): TensorRef =>
      attentionStep(
        recording,
        { ...given, gate: reshape(columns(wide, headDim, 2 * headDim), [batch, heads, headDim]) },
        options,
      );
    const gate = Float32Array.from(
      { length: batch * heads * headDim },
      (_, i) => inputs.wide.data[Math.floor(i / headDim) * 2 * headDim + headDim + (i % headDim)] ?? NaN,
    );
    for (const options of [{}, { softCap: 15, window: 70 }]) {
      const y = await run(
        device,
        kernel,
        { ...inputs, position: u32(...positions) },
        { splits, ...options },
        { executor, force },
      );
      const { q, k, v, slopes, sinks } = inputs;
      const expected = stepReference(
        { q: q.data, k: k.data, v: v.data, slopes: slopes.data, sinks: sinks.data, gate, position: positions },
        { batch, capacity, heads, kvHeads, headDim, ...options },
      );
      expectClose(y.data, expected, TOLERANCE);
    }
  });
});

it('attentionStep serves 32 query heads with one key head', async () => {
  const random = new Random(12);
  const [capacity, heads, headDim] = [70, 32, 192];
  const q = normalTensor(random, [1, heads, headDim]);
  const k = normalTensor(random, [1, capacity, 1, headDim]);
  const v = normalTensor(random, [1, capacity, 1, headDim]);
  const y = await run(device, attentionStep, { q, k, v, position: u32(66) }, {}, { executor });
  const sizes = { batch: 1, capacity, heads, kvHeads: 1, headDim };
  expectClose(y.data, stepReference({ q: q.data, k: k.data, v: v.data, position: [66] }, sizes), TOLERANCE);
});

it('attentionStep refuses terms of other shapes', async () => {
  const random = new Random(4);
  const q = normalTensor(random, [1, 2, 8]);
  const k = normalTensor(random, [1, 4, 2, 8]);
  for (const [name, shape] of Object.entries({ slopes: [1], sinks: [2, 1], gate: [1, 2, 4] })) {
    const given = { q, k, v: k, position: u32(0), [name]: normalTensor(random, shape) };
    await expect(run(device, attentionStep, given, {})).rejects.toThrow(ShapeError);
  }
});
