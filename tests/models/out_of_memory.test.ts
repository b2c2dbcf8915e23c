import type { Session } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterEach, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { limitMemory } from '../support/limited_memory.ts';
import { Random } from '../support/numbers.ts';

const device = await openTestDevice();
const memory = limitMemory(device.gpu);
// Attention and Mamba-2: states that are copied, and caches that grow, at 512 tokens.
const model = await loadModel(fixturePath('models/nemotron_h'), { device, contextLength: 1024, warmUp: false });
const GREEDY = { ignoreEos: true, temperature: 0 } as const;
const FULL = { code: 'out-of-memory' };
const random = new Random(8);
const [short, long] = [[...random.integers(5, 128)], [...random.integers(500, 128)]];
const expected = (await model.generate(short, { ...GREEDY, maxTokens: 9 }).result).tokens;
const after = (await model.generate(long, { ...GREEDY, maxTokens: 20 }).result).tokens;

/** A session that makes room for its checkpoints at once. */
const open = (): Session => model.session({ prefixCache: false, checkpointBytes: 1 });

/** Runs a call for which there is no memory but for `spare` bytes more, and then gives all back. */
async function without<T>(call: () => Promise<T>, spare = 0): Promise<T> {
  memory.limit(memory.used() + spare);
  try {
    return await call();
  } finally {
    memory.limit(Infinity);
  }
}

const write = async (session: Session, maxTokens: number): Promise<readonly number[]> =>
  (await session.generate({ ...GREEDY, maxTokens }).result).tokens;

afterEach(async () => {
  // Nothing is left for whoever uses the device next.
  await device.idle();
});

it('refuses a session that does not fit, and leaves the others as they are', async () => {
  using first = open();
  await first.append(short);
  expect(await write(first, 4)).toEqual(expected.slice(0, 4));
  const before = device.allocatedBytes;
  // None of its buffers, some of them, all but the last ones.
  for (const spare of [0, 2000, 40_000, 200_000]) {
    using second = open();
    await expect(without(() => second.append(short), spare)).rejects.toMatchObject(FULL);
    expect(second.length).toBe(0);
    second.dispose();
    expect(device.allocatedBytes).toBe(before);
  }
  await expect(without(() => first.fork().append([1]))).rejects.toMatchObject(FULL);
  await expect(without(() => first.save())).rejects.toMatchObject(FULL);
  expect(await write(first, 5)).toEqual(expected.slice(4));
  using third = open();
  await third.append(short);
  expect(await write(third, 9)).toEqual(expected);
});

it('refuses to grow, and goes on when there is memory again', async () => {
  using session = open();
  await session.append(long);
  const before = device.allocatedBytes;
  // Before the first token: the text is as it was.
  await expect(without(() => write(session, 20))).rejects.toMatchObject(FULL);
  await expect(without(() => session.append(long.slice(0, 20)))).rejects.toMatchObject(FULL);
  expect([session.length, device.allocatedBytes]).toEqual([500, before]);
  // A part that needs no more room.
  expect(await without(() => write(session, 5))).toEqual(after.slice(0, 5));
  expect(await write(session, 15)).toEqual(after.slice(5));
});

it('keeps what was read when memory ends in the middle of a text', async () => {
  using session = open();
  await session.append(long);
  const read: number[] = [];
  const reading = async (): Promise<void> => {
    // Guesses make a sequence grow as it goes.
    for await (const { token } of session.generate({ ...GREEDY, maxTokens: 20, draft: 'prompt-lookup' })) {
      read.push(token);
      // What each pass needs is there by then.
      if (read.length > 2) memory.limit(memory.used());
    }
  };
  await expect(without(reading, 2 ** 30)).rejects.toMatchObject(FULL);
  expect(read.length).toBeGreaterThan(4);
  expect(session.tokens).toEqual([...long, ...read]);
  expect([...read, ...(await write(session, 20 - read.length))]).toEqual(after);
});

it('decodes alone where there is no memory for a batch, or for what its options need', async () => {
  await model.runtime.decodePlan(512, 2);
  using one = open();
  using two = open();
  await one.append(short);
  await two.append(short);
  const both = await without(() => Promise.all([write(one, 9), write(two, 9)]));
  expect(both).toEqual([expected, expected]);
  const biased = { ...GREEDY, maxTokens: 2, logitBias: { 3: 1 } };
  await expect(without(() => one.generate(biased).result)).rejects.toMatchObject(FULL);
  expect((await one.generate(biased).result).tokens).toHaveLength(2);
});
