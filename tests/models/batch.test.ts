import type { GenerateOptions } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterAll, expect, it, vi } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { Random } from '../support/numbers.ts';

const device = await openTestDevice();
const model = await loadModel(fixturePath('models/nemotron_h'), { device, contextLength: 64, warmUp: false });
afterAll(() => model.dispose());

const random = new Random(12);
const calls: readonly (readonly [prompt: readonly number[], options: GenerateOptions])[] = [
  [[...random.integers(3, 128)], { maxTokens: 24, ignoreEos: true }],
  [[...random.integers(7, 128)], { maxTokens: 14, ignoreEos: true, temperature: 1, seed: 5 }],
  [[...random.integers(5, 128)], { maxTokens: 19, ignoreEos: true }],
];
const alone: (readonly number[])[] = [];
for (const [prompt, options] of calls) alone.push((await model.generate(prompt, options).result).tokens);

it('writes together what it writes alone: other lengths, other options, joining and leaving', async () => {
  await model.runtime.decodePlan(64, 4);
  await model.runtime.decodePlan(64, 2);
  const submit = vi.spyOn(device.gpu.queue, 'submit');
  let most = 0;
  const read = async (index: number): Promise<number[]> => {
    const [prompt, options] = calls[index] ?? [[]];
    const tokens: number[] = [];
    for await (const { token } of model.generate(prompt, options)) {
      tokens.push(token);
      most = Math.max(most, model.scheduler.batched);
    }
    return tokens;
  };
  const together = await Promise.all(calls.map((_, index) => read(index)));
  expect(together).toEqual(alone);
  expect(most).toBe(3);
  // Fewer than one for each token.
  expect(submit.mock.calls.length).toBeLessThan(alone.flat().length);
  submit.mockRestore();
  expect(model.scheduler.batched).toBe(0);
});

it('takes in whoever comes while steps of the others are on their way', async () => {
  const read = async (index: number, onToken?: (count: number) => void): Promise<number[]> => {
    const [prompt, options] = calls[index] ?? [[]];
    const tokens: number[] = [];
    for await (const { token } of model.generate(prompt, options)) {
      tokens.push(token);
      onToken?.(tokens.length);
    }
    return tokens;
  };
  let third: Promise<number[]> | undefined;
  const come = (count: number): void => {
    if (count >= 4 && model.scheduler.batched === 2) third ??= read(1);
  };
  expect(await Promise.all([read(0, come), read(2)])).toEqual([alone[0], alone[2]]);
  expect(await third).toEqual(alone[1]);
});

it('keeps the states of sessions that were decoded together, and gives its memory back', async () => {
  const before = device.allocatedBytes;
  const sessions = calls.map(() => model.session({ prefixCache: false }));
  const write = async (index: number, maxTokens: number, isFirst: boolean): Promise<readonly number[]> => {
    const [prompt = [], options] = calls[index] ?? [];
    const session = sessions[index];
    if (session === undefined) throw new Error('there is no session');
    const text = isFirst
      ? session.generate(prompt, { ...options, maxTokens })
      : session.generate({ ...options, maxTokens });
    return (await text.result).tokens;
  };
  const first = await Promise.all(calls.map((_, index) => write(index, 6 + index, true)));
  const second = await Promise.all(calls.map((_, index) => write(index, 6, false)));
  for (const [index, tokens] of first.entries()) {
    expect([...tokens, ...(second[index] ?? [])]).toEqual(alone[index]?.slice(0, 12 + index));
  }
  for (const session of sessions) session.dispose();
  await device.idle();
  expect(device.allocatedBytes).toBeLessThanOrEqual(before);
});

it('goes on with the others when one reader stops asking, and without those that fail', async () => {
  const [slow, quick] = calls;
  if (slow === undefined || quick === undefined) throw new Error('there are no calls');
  const reader = model.generate(...slow)[Symbol.asyncIterator]();
  const tokens = [(await reader.next()).value?.token];
  const aborted = new AbortController();
  const reason = new Error('enough');
  const failing = model.generate(quick[0], { ...quick[1], signal: aborted.signal });
  const reading = (async (): Promise<void> => {
    for await (const _ of failing) aborted.abort(reason);
  })();
  const failed = reading.catch((error: unknown) => error);
  expect((await model.generate(...quick).result).tokens).toEqual(alone[1]);
  expect(await failed).toBe(reason);
  for (let next = await reader.next(); next.done !== true; next = await reader.next()) tokens.push(next.value.token);
  expect(tokens).toEqual(alone[0]);
});

it('rejects all of them when the model is disposed', async () => {
  const other = await loadModel(fixturePath('models/nemotron_h'), { device, contextLength: 64, warmUp: false });
  const results = calls.map(([prompt, options]) => other.generate(prompt, { ...options, maxTokens: 50 }).result);
  const settled = Promise.allSettled(results);
  while (other.scheduler.batched < 2) await new Promise((resolve) => setTimeout(resolve));
  other.dispose();
  expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  for (const result of results) await expect(result).rejects.toMatchObject({ code: 'argument' });
});
