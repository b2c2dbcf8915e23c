import { ArgumentError, WeightFormatError } from '@mambalab/models';
import type { LoadProgress } from '@mambalab/models';
import { createWorkerModel } from '@mambalab/models/worker';
import { afterAll, describe, expect, it } from 'vitest';
import stories from '../fixtures/models/stories260k/expected.json';

const STORIES = '/tests/fixtures/models/stories260k/';

/** Longest times between two turns of the page's event loop while `body` runs, in milliseconds, the longest first. */
async function gapsWhile(body: () => Promise<unknown>): Promise<number[]> {
  const gaps: number[] = [];
  let last = performance.now();
  let isOver = false;
  const channel = new MessageChannel();
  const watching = new Promise<void>((resolve) => {
    channel.port1.addEventListener('message', () => {
      const now = performance.now();
      gaps.push(now - last);
      last = now;
      if (isOver) resolve();
      // Not at once: a page that is busy with itself would tell nothing.
      else setTimeout(() => channel.port2.postMessage(0), 4);
    });
    channel.port1.start();
    channel.port2.postMessage(0);
  });
  try {
    await body();
  } finally {
    isOver = true;
    await watching;
    channel.port1.close();
  }
  return gaps.sort((a, b) => b - a);
}

const worker = new Worker(new URL('./model.worker.ts', import.meta.url), { type: 'module' });
const phases = new Set<LoadProgress['phase']>();
const loading = createWorkerModel(worker, STORIES, { onProgress: ({ phase }) => phases.add(phase) });
// While the model is loaded, compiled, and writes for the first time.
const gaps = gapsWhile(async () => {
  const model = await loading;
  await model.generate(stories.prompt, { maxTokens: 20 }).result;
});
const model = await loading;
const gapsThen = await gaps;
afterAll(async () => {
  await model.dispose();
  worker.terminate();
});

describe('a model in a dedicated worker', () => {
  it('writes what the model writes on the page', async () => {
    expect([...phases]).toEqual(['download', 'upload', 'compile']);
    const text = model.generate(stories.prompt, { maxTokens: stories.greedy_ids.length });
    const pieces: string[] = [];
    for await (const piece of text) pieces.push(piece.text);
    expect((await text.result).tokens).toEqual(stories.greedy_ids);
    expect(stories.prompt + pieces.join('')).toBe(stories.text);
    expect(await model.memory()).toMatchObject({ stateBytes: 0 });
  });

  it('keeps nothing from happening on the page', () => {
    // Two cores do the work of the GPU as well: what is bounded is that no turn of the page lasts as long as the work.
    expect(gapsThen.length).toBeGreaterThan(20);
    expect(gapsThen[Math.floor(gapsThen.length / 20)]).toBeLessThan(100);
    expect(gapsThen[0]).toBeLessThan(1000);
  });

  it('stops with the reason of an abort, and goes on afterwards', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const tokens: number[] = [];
    const text = model.generate(stories.prompt, { maxTokens: 80, signal: abort.signal });
    const reading = (async (): Promise<void> => {
      for await (const { token } of text) {
        tokens.push(token);
        if (tokens.length === 3) abort.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    expect(tokens).toEqual(stories.greedy_ids.slice(0, 3));
    await using session = model.session();
    await session.append(stories.prompt);
    await using restored = await model.restore(await session.save());
    const again = await restored.generate({ maxTokens: 5 }).result;
    expect(again.tokens).toEqual(stories.greedy_ids.slice(0, 5));
  });

  it('fails with errors of the same class', async () => {
    const error: unknown = await model.logits([-1]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({ code: 'argument', hint: 'Encode the text with the tokenizer of this model.' });
    await expect(createWorkerModel(worker, '/nowhere/')).rejects.toThrow(WeightFormatError);
    const reason = new Error('too late');
    await expect(createWorkerModel(worker, STORIES, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

it('a worker that does not start is an error', async () => {
  const none = new Worker(new URL('/nowhere.js', location.href), { type: 'module' });
  await expect(createWorkerModel(none, STORIES)).rejects.toThrow(/does not start/);
  none.terminate();
});

it('a shared worker serves its pages with one model', async () => {
  const open = (): SharedWorker =>
    new SharedWorker(new URL('./model.worker.ts', import.meta.url), { type: 'module', name: 'model' });
  const options = { warmUp: false };
  const [one, two] = await Promise.all([
    createWorkerModel(open(), STORIES, options),
    createWorkerModel(open(), STORIES, options),
  ]);
  await one.dispose();
  const { tokens } = await two.generate(stories.prompt, { maxTokens: 4 }).result;
  expect(tokens).toEqual(stories.greedy_ids.slice(0, 4));
  await two.dispose();
});
