import type { SampleSettings } from '@mambalab/kernels';
import { Executor, run, sample } from '@mambalab/kernels';
import { sampleAdjusted, sampleKept } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice } from '../support/gpu.ts';
import { Random } from '../support/numbers.ts';
import type { Row } from '../support/sampling.ts';
import { inputsOf, repeat } from '../support/sampling.ts';

const device = await openTestDevice();
const executor = new Executor(device);
afterAll(() => executor.dispose());

const isLong = process.env['MAMBALAB_LONG'] === '1';
const DRAWS = isLong ? 100_000 : 3000;
const BATCH = 1000;
const WIDTH = 24;

/** Probabilities in float64: bias, penalties and mask, then temperature, then the filters in their order. */
function probabilitiesOf({ logits, settings = {}, recent, bias, mask }: Row): number[] {
  const { temperature = 1, topK, topP, minP } = settings;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, penaltyWindow } = settings;
  const shape = { rows: 1, width: WIDTH };
  const adjusted = sampleAdjusted(
    { logits: Float32Array.from(logits), recent, bias: bias?.flat(), mask },
    { ...shape, repetitionPenalty, presencePenalty, frequencyPenalty, penaltyWindow },
  );
  const kept = sampleKept({ logits: adjusted }, { ...shape, temperature, topK, topP, minP });
  const masses = [...adjusted].map((logit, token) => (kept[token] === 1 ? Math.exp(logit / temperature) : 0));
  const total = masses.reduce((sum, mass) => sum + mass, 0);
  return masses.map((mass) => mass / total);
}

/** The statistic, with the rare tokens as one, and its degrees of freedom. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): { sum: number; freedom: number } {
  let [rareCount, rareExpected, sum, cells] = [0, 0, 0, 0];
  const add = (count: number, expected: number): void => {
    sum += (count - expected) ** 2 / expected;
    cells += 1;
  };
  for (const [token, probability] of probabilities.entries()) {
    const [count, expected] = [counts[token] ?? 0, DRAWS * probability];
    if (probability === 0) sum += count === 0 ? 0 : Infinity;
    else if (expected < 5) [rareCount, rareExpected] = [rareCount + count, rareExpected + expected];
    else add(count, expected);
  }
  if (rareExpected > 0) add(rareCount, rareExpected);
  return { sum, freedom: cells - 1 };
}

const random = new Random(21);
const logits = random.normals(WIDTH, 1.5);
const recent = [5, 1, 1, 4, 7, 9, 0, 0, 0];
const bias: NonNullable<Row['bias']> = [
  [2, 1.5],
  [3, -Infinity],
];
const mask = [0x00ffff7f];

const CASES: readonly (readonly [string, SampleSettings, Partial<Row>])[] = [
  ['temperature', { temperature: 0.8 }, {}],
  ['top-k', { temperature: 1.3, topK: 7 }, {}],
  ['top-p and min-p', { temperature: 1.5, topP: 0.85, minP: 0.04 }, {}],
  ['penalties', { temperature: 1, repetitionPenalty: 1.4, presencePenalty: 0.3, frequencyPenalty: 0.4 }, { recent }],
  [
    'all of it',
    {
      temperature: 1.2,
      topK: 15,
      topP: 0.95,
      minP: 0.01,
      repetitionPenalty: 1.2,
      frequencyPenalty: 0.2,
      penaltyWindow: 4,
    },
    { recent, bias, mask },
  ],
];

describe(`${DRAWS} draws have the probabilities of the reference`, () => {
  it.each(isLong ? CASES : CASES.slice(-1))('%s', async (_name, settings, extra) => {
    const counts = repeat(WIDTH, () => 0);
    for (let first = 0; first < DRAWS; first += BATCH) {
      const rows = repeat(BATCH, (at): Row => ({
        logits,
        settings: { ...settings, seed: 77 },
        position: first + at,
        ...extra,
      }));
      const { data } = await run(device, sample, inputsOf(rows), { filters: true }, { executor });
      for (const token of data.subarray(0, BATCH)) counts[token] = (counts[token] ?? 0) + 1;
    }
    const { sum, freedom } = chiSquare(counts, probabilitiesOf({ logits, settings, ...extra }));
    expect(freedom).toBeGreaterThan(3);
    // Wilson and Hilferty's quantile at one in a thousand. The seed is fixed: a device either passes or does not.
    const limit = freedom * (1 - 2 / (9 * freedom) + 3.09 * Math.sqrt(2 / (9 * freedom))) ** 3;
    expect(sum).toBeLessThan(limit);
    // Another temperature would not pass.
    const temperature = 1.5 * (settings.temperature ?? 1);
    const tempered = probabilitiesOf({ logits, settings: { ...settings, temperature }, ...extra });
    expect(chiSquare(counts, tempered).sum).toBeGreaterThan(limit);
  });
});
