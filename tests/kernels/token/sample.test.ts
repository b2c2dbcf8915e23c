import type { HostTensor } from '@mambalab/kernels';
import { ArgumentError, NO_TOKEN, run, sample, ShapeError } from '@mambalab/kernels';
import { philox, sample as reference, sampleScores } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();

const words = (values: readonly number[], shape: readonly number[] = [values.length]): HostTensor => ({
  data: Uint32Array.from(values),
  shape,
  dtype: 'u32',
});
const rowsOf = (rows: readonly (readonly number[])[]): HostTensor & { data: Float32Array } => ({
  data: Float32Array.from(rows.flat()),
  shape: [rows.length, rows[0]?.length ?? 0],
  dtype: 'f32',
});
const repeat = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);
const poisoned = (batch: number): HostTensor => words(repeat(batch, 0xabcdabcd));
const SEED = [0x12345678, 0x9abcdef0] as const;
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
const settingsOf = (temperatures: readonly number[], seed: readonly [number, number] = SEED): HostTensor =>
  words(
    temperatures.flatMap((temperature) => [bitsOf(temperature), ...seed, 0]),
    [temperatures.length, 4],
  );

it('the generator of the reference gives the published numbers', () => {
  // kat_vectors of Random123, philox4x32 10.
  const hex = (text: string): number[] => text.split(' ').map((word) => Number.parseInt(word, 16));
  for (const [counter, key, expected] of [
    ['0 0 0 0', '0 0', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ] as const) {
    expect(philox(hex(counter), hex(key))).toEqual(hex(expected));
  }
});

describe.each(simdChoices(device))('sample %o', (force) => {
  const settle = { force, poison: true };

  it.each([
    // batch, vocabulary: on both sides of a quad, of a workgroup, of a slice, of a workgroup of slices
    [1, 1],
    [3, 5],
    [2, 128],
    [2, 129],
    [1, 1023],
    [2, 1024],
    [2, 1025],
    [1, 4097],
    [1, 33_000],
    [1, 262_144],
    [1, 262_149],
  ])('takes the largest of %i x %i logits', async (batch, width) => {
    const random = new Random(batch * 7919 + width);
    const logits = normalTensor(random, [batch, width]);
    const expected = [...reference({ logits: logits.data }, { rows: batch, width })];
    const found = await run(device, sample, { logits, token: poisoned(batch) }, {}, settle);
    expect([...found.data]).toEqual(expected);
    // The last and the first logit win, too.
    for (const place of [width - 1, 0]) {
      for (let row = 0; row < batch; row++) logits.data[row * width + place] = 10;
      const moved = await run(device, sample, { logits, token: poisoned(batch) }, {}, settle);
      expect([...moved.data]).toEqual(repeat(batch, width === 1 || place === 0 ? 0 : place));
    }
  });

  it('takes the first of equal logits, and never NaN', async () => {
    const equal = repeat(2000, 1.5);
    const late = equal.map((_, i) => (i === 700 || i === 1999 ? -1 : -2));
    const nan = equal.map((_, i) => (i === 1500 ? -5 : NaN));
    const mixed = equal.map((value, i) => (i % 3 === 0 ? NaN : i === 1400 ? 2 : value));
    const zeros = equal.map((_, i) => (i === 3 ? -0 : i === 1900 ? 0 : -1));
    const logits = rowsOf([equal, late, nan, mixed, zeros, equal.map(() => NaN), equal.map(() => -Infinity)]);
    const found = await run(device, sample, { logits, token: poisoned(7) }, {}, settle);
    expect([...found.data]).toEqual([0, 700, 1500, 1400, 3, NO_TOKEN, 0]);
    // The settings of a greedy row change nothing.
    const settings = settingsOf([0, 0, -0, -1, NaN, Infinity, 0]);
    const again = await run(device, sample, { logits, token: poisoned(7), settings }, {}, settle);
    expect([...again.data]).toEqual([...found.data]);
  });

  it('draws the token of the reference, in any batch', async () => {
    const random = new Random(11);
    const [batch, width, temperature] = [6, 2500, 0.7];
    const one = normalTensor(random, [1, width], 2);
    const logits = rowsOf(repeat(batch, Array.from(one.data)));
    const position = [0, 1, 2, 1_000_000, 0xffffffff, 1];
    const inputs = { logits, token: poisoned(batch), position: words(position) };
    const settings = settingsOf(repeat(batch, temperature));
    const found = await run(device, sample, { ...inputs, settings }, {}, settle);
    const scores = sampleScores({ logits: logits.data, position }, { rows: batch, width, temperature, seed: SEED });
    for (const [row, token] of [...found.data].entries()) {
      const largest = scores.subarray(row * width, (row + 1) * width).reduce((a, b) => Math.max(a, b));
      // Rounding of the logarithms decides only between scores that are this near.
      expect(largest - (scores[row * width + token] ?? NaN)).toBeLessThan(2e-5);
    }
    expect(found.data[5]).toBe(found.data[1]);
    expect(new Set(found.data).size).toBeGreaterThan(2);
    const other = settingsOf(repeat(batch, temperature), [SEED[0], SEED[1] + 1]);
    const reseeded = await run(device, sample, { ...inputs, settings: other }, {}, settle);
    expect([...reseeded.data]).not.toEqual([...found.data]);
  });

  it('draws as often as the probabilities say', async () => {
    const draws = 4000;
    const logits = [0, 1, 2, -1, 0.5, -Infinity, 1.5, NaN];
    const temperature = 1.3;
    const inputs = {
      logits: rowsOf(repeat(draws, logits)),
      token: poisoned(draws),
      position: words(Array.from({ length: draws }, (_, i) => i)),
      settings: settingsOf(repeat(draws, temperature)),
    };
    const { data } = await run(device, sample, inputs, {}, settle);
    const counts = logits.map((_, token) => data.filter((found) => found === token).length);
    const powers = logits.map((logit) => (Number.isNaN(logit) ? 0 : Math.exp(logit / temperature)));
    const total = powers.reduce((sum, power) => sum + power, 0);
    let chiSquare = 0;
    for (const [token, power] of powers.entries()) {
      const expected = (draws * power) / total;
      if (power > 0) chiSquare += ((counts[token] ?? NaN) - expected) ** 2 / expected;
    }
    expect([counts[5], counts[7]]).toEqual([0, 0]);
    // Six tokens can be drawn: 20.5 is exceeded by chance once in a thousand sets of 5 degrees of freedom. The seed is
    // fixed, so that a device either passes or does not.
    expect(chiSquare).toBeLessThan(20.5);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(draws);
  });

  it('survives infinities and extreme temperatures', async () => {
    const logits = rowsOf([
      [1, Infinity, 5, Infinity],
      [-Infinity, -Infinity, -Infinity, -Infinity],
      [NaN, -Infinity, NaN, NaN],
      [NaN, -Infinity, -7, NaN],
      [3, 1, 3.5, 2],
      [3e38, -3e38, 1, 0],
    ]);
    const settings = settingsOf([1, 1, 1, 1, 1e-30, 1e-3]);
    const found = await run(device, sample, { logits, token: poisoned(6), settings }, {}, settle);
    expect([...found.data]).toEqual([1, NO_TOKEN, NO_TOKEN, 2, 2, 0]);
  });

  it('advances the position before its use', async () => {
    const random = new Random(12);
    const logits = normalTensor(random, [3, 40]);
    const position = words([0, 9, 0xfffffffe]);
    const settings = settingsOf([1, 1, 1]);
    const kernel: typeof sample = (recording, inputs, options) => {
      sample(recording, inputs, options);
      return inputs.position ?? inputs.token;
    };
    const inputs = { logits, token: poisoned(3), position, settings };
    const kept = await run(device, kernel, inputs, {}, settle);
    expect([...kept.data]).toEqual([0, 9, 0xfffffffe]);
    const advanced = await run(device, kernel, inputs, { advance: true }, settle);
    expect([...advanced.data]).toEqual([1, 10, 0xffffffff]);
    const ahead = { ...inputs, position: words([1, 10, 0xffffffff]) };
    const plain = await run(device, sample, ahead, {}, settle);
    const advancing = await run(device, sample, inputs, { advance: true }, settle);
    expect([...advancing.data]).toEqual([...plain.data]);
  });
});

it('refuses what does not fit', async () => {
  const logits = normalTensor(new Random(1), [2, 8]);
  const token = poisoned(2);
  await expect(run(device, sample, { logits, token }, { advance: true })).rejects.toThrow(ArgumentError);
  await expect(run(device, sample, { logits, token: poisoned(3) }, {})).rejects.toThrow(ShapeError);
  await expect(run(device, sample, { logits, token, settings: words([0, 0]) }, {})).rejects.toThrow(ShapeError);
  await expect(run(device, sample, { logits, token, position: words([0]) }, {})).rejects.toThrow(ShapeError);
});
