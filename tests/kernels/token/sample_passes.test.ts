// Longer than other tests, so that one executor compiles each pipeline once for all of them.
import type { ForcedChoices, HostTensor, SampleInputs, SampleOptions, SampleSettings } from '@mambalab/kernels';
import { Device, Executor, NO_TOKEN, Recording, run, sample } from '@mambalab/kernels';
import { sampleKept, sampleLogprobs } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, Random } from '../../support/numbers.ts';
import type { Row } from '../../support/sampling.ts';
import { expectToken, inputsOf, repeat, scoresOf } from '../../support/sampling.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

type Choose = (rows: readonly Row[], options: SampleOptions) => Promise<readonly number[]>;

const NAN_WORD = 0x7fc00000;

const chooserOf =
  (force: ForcedChoices): Choose =>
  async (rows, options) => [...(await run(device, sample, inputsOf(rows), options, { force, executor })).data];

async function expectTokens(
  choose: Choose,
  rows: readonly Row[],
  options: SampleOptions = { filters: true },
): Promise<void> {
  for (const [at, token] of (await choose(rows, options)).entries()) {
    const row = rows[at] ?? { logits: [] };
    expectToken(token, scoresOf(row), row.settings?.temperature);
  }
}

const KINDS: readonly SampleSettings[] = [
  {},
  { temperature: 1 },
  { temperature: 0.8, topK: 1 },
  { temperature: 1.5, topK: 5 },
  { temperature: 3, topK: 200 },
  { temperature: 0.05, topK: 30 },
  { temperature: 1, topP: 0.5 },
  { temperature: 2, topP: 0.99 },
  { temperature: 1, topP: 0 },
  { temperature: 1, minP: 0.2 },
  { temperature: 40, minP: 1 },
  { temperature: 1.2, topK: 60, topP: 0.9, minP: 0.01 },
  { temperature: 50, topK: 3000, topP: 0.7 },
  { temperature: 1, topK: 0xffffffff, topP: 1 },
];

const ADJUSTED: readonly SampleSettings[] = [
  {},
  { repetitionPenalty: 1.5 },
  { presencePenalty: 0.7, frequencyPenalty: 0.9 },
  { repetitionPenalty: 0.6, presencePenalty: -0.5, penaltyWindow: 2 },
  { temperature: 1, repetitionPenalty: 1.2, frequencyPenalty: 1.1, topK: 9, topP: 0.9, seed: 8 },
];
/** Recent tokens, biases and masks that matter: about the largest logits. */
const adjustedRow = (random: Random, width: number, settings: SampleSettings, at: number): Row => {
  const logits = random.normals(width, 2);
  const best = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0)).slice(0, 12);
  const pick = (): number => best[random.integer(0, best.length - 1)] ?? 0;
  return {
    logits,
    settings,
    position: at,
    // Empty, filled in part, filled, and three wraps later.
    recent: [[0, 3, 7, 19][at % 4] ?? 0, ...repeat(7, (n) => (n === 4 ? NO_TOKEN : pick()))],
    bias: [
      [pick(), 1.25],
      [best[0] ?? 0, -2],
      [width + 5, 100],
      [best[0] ?? 0, -0.5],
      [NO_TOKEN, 100],
      [best[1] ?? 0, [-Infinity, 3, -Infinity, Infinity][at % 4] ?? 0],
    ],
    mask: repeat(Math.ceil(width / 32), () => random.integer(0, 0xffffffff)),
  };
};

describe.each(simdChoices(device))('the passes of sample %o', (force) => {
  const settle = { force, poison: true, executor };
  const choose = chooserOf(force);

  it.each([1, 31, 257, 5000, 50_277])('filters %i logits by the settings of each row', async (width) => {
    const random = new Random(width);
    const rows = KINDS.map((settings, at): Row => {
      const position = at === 3 ? 0xffffffff : at;
      return { logits: random.normals(width, 3), settings: { ...settings, seed: 77 + at }, position };
    });
    await expectTokens(choose, rows);
  });

  it('survives NaN, infinities and large numbers', async () => {
    const settings: SampleSettings = { temperature: 1, topK: 3, topP: 0.9, minP: 0.01, seed: 3 };
    const some = [1, NaN, 3, -Infinity, 2.5, NaN, -Infinity, 0];
    const rows: readonly (readonly number[])[] = [
      some,
      some.map(() => NaN),
      some.map(() => -Infinity),
      some.map((value, at) => (at === 6 || at === 2 ? Infinity : value)),
      some.map((_, at) => (at === 4 ? -7 : NaN)),
      [3e38, -3e38, 2.9e38, 0, -1, 3e38, 1, 2],
      some.map((_, at) => -at * 1e-40),
    ];
    for (const extra of [settings, { ...settings, temperature: 1e-30 }, { ...settings, temperature: 1e30 }, {}]) {
      await expectTokens(
        choose,
        rows.map((logits): Row => ({ logits, settings: extra })),
      );
    }
  });

  it.each([
    [13, false],
    [300, false],
    [5000, false],
    [300, true],
  ])('applies bias, penalties and mask to %i logits, filters %o', async (width, filters) => {
    const random = new Random(width);
    const rows = ADJUSTED.map((settings, at) => adjustedRow(random, width, settings, at));
    const drawn = filters ? rows : rows.map((row) => ({ ...row, settings: { ...row.settings, topK: 0, topP: 1 } }));
    await expectTokens(choose, drawn, { filters });
  });

  it('has nothing to choose where everything is masked', async () => {
    const bare: Row = { logits: [1, 2, 3, 4, 5], mask: [0], recent: [1, 4, 4], bias: [[3, 8]] };
    const rows = [{}, { temperature: 1 }, { temperature: 1, topK: 2, topP: 0.5 }].map((settings) => ({
      ...bare,
      settings,
    }));
    const kernel = (recording: Recording, inputs: SampleInputs, options: SampleOptions) => ({
      token: sample(recording, inputs, options),
      recent: inputs.recent,
    });
    for (const filters of [false, true]) {
      const found = await run(device, kernel, inputsOf(rows), { filters }, settle);
      expect([...found.token.data]).toEqual([NO_TOKEN, NO_TOKEN, NO_TOKEN]);
      expect([...(found.recent?.data ?? [])]).toEqual([1, 4, 4, 1, 4, 4, 1, 4, 4]);
    }
  });

  it.each([false, true])('remembers what it chose, step after step, filters %o', async (filters) => {
    await expectDecoding(force, filters);
  });

  it.each([
    [31, 20, false],
    [5000, 5, false],
    [2000, 20, true],
    [257, 0, false],
  ])('gives log-probabilities of %i logits and %i tops, filters %o', async (width, tops, filters) => {
    const random = new Random(width);
    const ordinary = random.normals(width, 3);
    const logits = [
      ordinary,
      ordinary.map((value) => value + 80),
      ordinary.map((value, at) => (at % 3 === 0 ? NaN : at % 3 === 1 ? -Infinity : Math.round(value))),
      ordinary.map((value, at) => (at === 7 || at === 9 ? Infinity : value)),
      ordinary.map((_, at) => (at === 30 ? -4 : NaN)),
      ordinary.map(() => -Infinity),
      ordinary.map(() => 0.5),
      ordinary.map((value, at) => (at % 2 === 0 ? value * 1e37 : value)),
    ];
    const rows = logits.map((row): Row => ({ logits: row, settings: { temperature: 1.5, topK: 20, seed: 2 } }));
    const batch = rows.length;
    const poison = (shape: readonly number[], dtype: 'u32' | 'f32'): HostTensor =>
      dtype === 'u32'
        ? { data: new Uint32Array(shape.reduce((a, b) => a * b)).fill(NAN_WORD), shape, dtype }
        : { data: new Float32Array(shape.reduce((a, b) => a * b)).fill(NaN), shape, dtype };
    const kernel = (recording: Recording, inputs: SampleInputs, options: SampleOptions) => ({
      token: sample(recording, inputs, options),
      logprob: inputs.logprob,
      topTokens: inputs.topTokens,
      topLogprobs: inputs.topLogprobs,
    });
    const inputs = {
      ...inputsOf(rows),
      logprob: poison([batch], 'f32'),
      ...(tops > 0 && { topTokens: poison([batch, tops], 'u32'), topLogprobs: poison([batch, tops], 'f32') }),
    };
    const found = await run(device, kernel, inputs, { filters }, settle);
    const flat = Float32Array.from(logits.flatMap((row) => [...row]));
    const expected = sampleLogprobs({ logits: flat, token: found.token.data }, { rows: batch, width, tops });
    expectLogprobs(found.logprob?.data ?? [], expected.logprob);
    if (tops === 0) return;
    expect([...(found.topTokens?.data ?? [])]).toEqual([...expected.topTokens]);
    expectLogprobs(found.topLogprobs?.data ?? [], expected.topLogprobs);
  });
});

// What no axis of variants changes.
describe('the passes of sample', () => {
  const choose = chooserOf({});

  it('run with the large workgroups of other devices, too', async () => {
    // The same device under a name that does not tell that a CPU does the work.
    const info = { vendor: 'test', architecture: '', device: '', description: '' } as GPUAdapterInfo;
    const hardware = new Device(device.gpu, info);
    expect(hardware.capabilities.software).toBe(false);
    const random = new Random(9);
    const rows = [...ADJUSTED, ...KINDS.slice(10)].map((settings, at) => adjustedRow(random, 3000, settings, at));
    await expectTokens(
      async (given, options) => [...(await run(hardware, sample, inputsOf(given), options, { poison: true })).data],
      rows,
    );
  });

  it('chooses the same token in any place of a batch, and the same without filters', async () => {
    const random = new Random(3);
    const row = (settings: SampleSettings): Row => ({ logits: random.normals(600, 2), settings, position: 9 });
    const one = row({ temperature: 1.3, topK: 40, topP: 0.9, seed: 5 });
    const others = KINDS.slice(0, 4).map(row);
    const tokens = await choose([one, ...others, one, one], { filters: true });
    expect([tokens[5], tokens[6]]).toEqual([tokens[0], tokens[0]]);
    expect(await choose([one], { filters: true })).toEqual([tokens[0]]);
    const plain = [...others.slice(0, 2), row({ temperature: 2, seed: 8 }), row({ temperature: 9, seed: 1 })];
    expect(await choose(plain, { filters: true })).toEqual(await choose(plain, {}));
  });

  /** Draws often and compares how often each token came with what the reference keeps of it. */
  const expectDraws = async (logits: readonly number[], settings: SampleSettings, limit: number): Promise<void> => {
    const draws = 120;
    const rows = repeat(draws, (position): Row => ({ logits, settings, position }));
    const temperature = Math.fround(settings.temperature ?? 1);
    const kept = sampleKept(
      { logits: Float32Array.from(logits) },
      { rows: 1, width: logits.length, ...settings, temperature },
    );
    const largest = Math.max(...logits);
    const powers = logits.map((logit, at) => (kept[at] === 1 ? Math.exp((logit - largest) / temperature) : 0));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const counts = new Float64Array(logits.length);
    for (const token of await choose(rows, { filters: true })) counts[token] = (counts[token] ?? NaN) + 1;
    let chiSquare = 0;
    for (const [token, power] of powers.entries()) {
      const expected = (draws * power) / total;
      if (power === 0) expect([token, counts[token]]).toEqual([token, 0]);
      else chiSquare += ((counts[token] ?? NaN) - expected) ** 2 / expected;
    }
    expect(chiSquare).toBeLessThan(limit);
  };

  it.each([
    // The limit is exceeded once in a thousand seeds for the degrees of freedom; the seed is fixed.
    [{ temperature: 1.4, topK: 5 }, 18.5],
    [{ temperature: 1.4, topP: 0.8 }, 20.5],
    [{ temperature: 1.4, minP: 0.3 }, 16.3],
    [{ temperature: 2, topK: 6, topP: 0.9, minP: 0.2 }, 20.5],
  ])('draws as often as the probabilities of %o say', async (settings, limit) => {
    await expectDraws([0, 1.1, 2.3, -1, 0.7, -3, 1.9, 0.2, -0.4, 1.4], { ...settings, seed: 12 }, limit);
  });

  it('keeps what ties with the last one', async () => {
    const logits = [2, 1, 0, 1, 2, 1, -1, 0];
    await expectDraws(logits, { temperature: 1, topK: 3, seed: 1 }, 18.5);
    await expectDraws(logits, { temperature: 1, topP: 0.55, seed: 2 }, 18.5);
    await expectDraws(logits, { temperature: 1, topK: 1, topP: 0.5, seed: 3 }, 10.9);
  });

  it.each([900, 2000, 5000])('finds an end among %i logits that nearly equal the largest', async (width) => {
    // All are in the first bin: the list, its cache, or all keys are searched.
    const step = width > 4096 ? 2 ** -20 : 2 ** -18;
    const logits = repeat(width, (at) => 1 - ((at * 7) % width) * step);
    const settings: readonly SampleSettings[] = [
      { temperature: 3 * step, topK: 3 },
      { temperature: 2 * step, topP: 0.8 },
      { temperature: step, topK: 6, topP: 0.99 },
      { temperature: 100, topK: 2, topP: 0.6 },
      { temperature: 100, topP: 2.5 / width },
    ];
    const rows = settings.flatMap((chosen) =>
      repeat(8, (position): Row => ({ logits, settings: { ...chosen, seed: 4 }, position })),
    );
    const tokens = await choose(rows, { filters: true });
    for (const [at, { topK = 0, topP = 1, temperature = 1 }] of settings.entries()) {
      const kept = sampleKept({ logits }, { rows: 1, width, temperature, topK, topP });
      const drawn = new Set(tokens.slice(8 * at, 8 * at + 8));
      expect([...drawn].filter((token) => kept[token] !== 1)).toEqual([]);
      // Two and more are kept, and eight draws find more than one.
      expect(drawn.size).toBeGreaterThan(1);
    }
  });

  it('keeps all of many equals', async () => {
    const logits = repeat(4500, (at) => (at % 2 === 0 ? 1 : -20));
    const rows = repeat(8, (position): Row => ({ logits, position, settings: { temperature: 1, topK: 2, seed: 6 } }));
    const ties = repeat(8, (position): Row => ({
      logits,
      position,
      settings: { temperature: 1, topP: 0.1, seed: 6 },
    }));
    await expectTokens(choose, [...rows, ...ties]);
    const tokens = await choose([...rows, ...ties], { filters: true });
    expect(tokens.every((token) => token % 2 === 0)).toBe(true);
    expect(new Set(tokens.slice(0, 8)).size).toBeGreaterThan(6);
    expect(tokens.slice(8)).toEqual(tokens.slice(0, 8));
  });
});

/** As expectClose, but infinities are equal to themselves; NaN is not. */
function expectLogprobs(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  const finite = (values: ArrayLike<number>): number[] =>
    Array.from(values, (value) => (value === -Infinity ? -1e38 : value));
  // Exponentials of f32 are accurate to a few units of their argument.
  expectClose(finite(found), finite(expected), { rtol: 2e-6, atol: 5e-6 });
}

/** Replays one plan on fixed logits: the penalties alone change what is chosen. */
async function expectDecoding(force: ForcedChoices, filters: boolean): Promise<void> {
  const random = new Random(5);
  const [width, room, steps] = [70, 4, 11];
  const all: readonly SampleSettings[] = [
    { frequencyPenalty: 0.9 },
    { temperature: 0.7, repetitionPenalty: 1.4, presencePenalty: 0.5, penaltyWindow: 3, seed: 4 },
  ];
  const rows = all.map((settings): Row => ({ logits: random.normals(width, 2), settings, recent: [0, 0, 0, 0, 0] }));
  const hosts = inputsOf(rows);
  const recording = new Recording(device.capabilities, { force });
  const refs = Object.fromEntries(
    Object.entries(hosts as Record<string, HostTensor>).map(([name, { dtype, shape, rowStride }]) => [
      name,
      recording.external(name, dtype, shape, rowStride),
    ]),
  );
  sample(recording, refs as unknown as SampleInputs, { advance: true, filters });
  const plan = await executor.compile(recording);
  const tensors = Object.fromEntries(
    Object.entries(hosts as Record<string, HostTensor>).map(([name, host]) => [name, device.upload(name, host)]),
  );
  const bound = plan.bind(tensors);
  const rings = rows.map(() => repeat(1 + room, () => 0));
  const seen = new Set<number>();
  for (let step = 0; step < steps; step++) {
    bound.submit();
    const token = tensors['token'];
    if (token === undefined) throw new Error('There is no token.');
    const { data } = await device.read(token);
    for (const [at, row] of rows.entries()) {
      const chosen = data[at] ?? NaN;
      const ring = rings[at] ?? [];
      expectToken(chosen, scoresOf({ ...row, recent: ring, position: step + 1 }));
      const appended = ring[0] ?? 0;
      ring[1 + (appended % room)] = chosen;
      ring[0] = appended + 1;
      seen.add(chosen);
    }
  }
  expect(seen.size).toBeGreaterThan(4);
  const { recent } = tensors;
  if (recent === undefined) throw new Error('There is no ring.');
  expect([...(await device.read(recent)).data.subarray(0, 2 * (1 + room))]).toEqual(rings.flat());
  for (const tensor of Object.values(tensors)) tensor.dispose();
  plan.dispose();
}
