import type { Model } from '@mambalab/models';
import OpenAI from 'openai';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ServeFlags } from '../../../packages/models/src/cli/serve.ts';
import { serve } from '../../../packages/models/src/cli/serve.ts';
import { scriptedModel } from '../../support/scripted_model.ts';

const model = scriptedModel({ text: () => 'Hello there.', delayMs: 5 });

vi.mock(import('../../../packages/models/src/node.ts'), async (importOriginal) => ({
  ...(await importOriginal()),
  loadModel: () => Promise.resolve({ ...model, [Symbol.asyncDispose]: () => Promise.resolve() } as unknown as Model),
}));

let out = '';
let messages = '';

beforeEach(() => {
  out = '';
  messages = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    messages += String(text);
    return true;
  });
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const FLAGS: ServeFlags = {
  host: '127.0.0.1',
  port: 0,
  maxRunning: 4,
  maxWaiting: 4,
  timeout: 10,
  grace: 5,
  dtype: 'auto',
};

/** Where the command listens, once it says so. */
async function address(): Promise<string> {
  return await vi.waitFor(() => {
    const url = /http:\/\/[\w.:]*\d/.exec(out)?.[0];
    if (url === undefined) throw new Error('It does not listen yet.');
    return url;
  });
}

const ask = (url: string, apiKey: string): Promise<OpenAI.Completions.Completion> =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 }).completions.create({ model: 'tiny', prompt: 'x' });

it('serves until it is told to end, lets texts end, and logs a line a request', async () => {
  vi.stubEnv('MAMBALAB_TOKEN', 'secret');
  const listeners = process.listenerCount('SIGTERM');
  const served = serve('models/of/tiny.gguf', FLAGS);
  const url = await address();
  await expect(ask(url, 'wrong')).rejects.toMatchObject({ status: 401 });
  const answer = ask(url, 'secret');
  await vi.waitFor(() => expect(model.running).toBe(1));
  process.emit('SIGTERM');
  expect((await answer).choices[0]?.text).toBe('Hello there.');
  await served;
  expect(process.listenerCount('SIGTERM')).toBe(listeners);
  const lines = out.trimEnd().split('\n');
  expect(lines).toHaveLength(4);
  expect(lines[0]).toContain('tiny at ');
  expect(lines[1]).toMatch(/ POST \/v1\/completions 401 /);
  expect(lines[3]).toMatch(/ POST \/v1\/completions 200 .*model=tiny prompt=1 written=4 /);
  expect(messages).toBe('');
});

it('ends at once when it is told twice, and logs JSON', async () => {
  const wait = (): { readonly promise: Promise<void>; resolve(): void } => {
    let resolve = (): void => undefined;
    return { promise: new Promise((done) => (resolve = done)), resolve: () => resolve() };
  };
  const [first, second] = [wait(), wait()];
  const flags = { ...FLAGS, host: '0.0.0.0', name: 'tiny', json: true, token: '' };
  const served = serve('org/other', flags, { first: first.promise, second: second.promise });
  const url = (await address()).replace('0.0.0.0', '127.0.0.1');
  const answer = ask(url, 'none').catch((error: unknown) => error);
  await vi.waitFor(() => expect(model.running).toBe(1));
  first.resolve();
  second.resolve();
  await served;
  expect(await answer).toMatchObject({ status: 503 });
  const events = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  expect(events).toMatchObject([
    { event: 'listening', model: 'tiny' },
    { event: 'ending' },
    { path: '/v1/completions', status: 503, outcome: 'failed' },
  ]);
  expect(messages).toContain('set MAMBALAB_TOKEN');
});
