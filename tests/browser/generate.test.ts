import { hybrid } from '@mambalab/checkpoints';
import { requestDevice } from '@mambalab/kernels';
import type { Session } from '@mambalab/models';
import { loadModel, openSafetensors, readGolden } from '@mambalab/models';
import { openBrowserFolder } from '../../packages/models/src/weights/browser_folder.ts';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import stories from '../fixtures/models/stories260k/expected.json';
import golden from '../fixtures/models/shipped.json';

const STORIES = new URL('/tests/fixtures/models/stories260k/', location.href);

const device = await requestDevice();
const gpuErrors: string[] = [];
device.gpu.addEventListener('uncapturederror', ({ error }) => gpuErrors.push(error.message));

afterEach(async () => {
  await device.idle();
  if (gpuErrors.length > 0) throw new Error(`GPU errors: ${gpuErrors.join('; ')}`);
});
afterAll(() => device.dispose());

describe('stories260k over HTTP', () => {
  it('continues as the original C program does, and asks for parts of the weights', async () => {
    performance.clearResourceTimings();
    const phases = new Set<string>();
    using model = await loadModel(STORIES, { device, onProgress: ({ phase }) => phases.add(phase) });
    expect([...phases]).toEqual(['download', 'upload', 'compile']);
    const requests = performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.safetensors'));
    expect(requests.length).toBeGreaterThan(1);

    const text = model.generate(stories.prompt, { maxTokens: stories.greedy_ids.length });
    const pieces: string[] = [];
    for await (const piece of text) pieces.push(piece.text);
    const result = await text.result;
    expect(result.tokens).toEqual(stories.greedy_ids);
    expect(stories.prompt + pieces.join('')).toBe(stories.text);
  });

  it('holds a text to its format', async () => {
    using model = await loadModel(STORIES, { device });
    const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] };
    const options = { maxTokens: 60, temperature: 1, seed: 1 } as const;
    const json = model.generate(stories.prompt, { ...options, responseFormat: { type: 'json_schema', schema } });
    const { text, finishReason } = await json.result;
    expect([typeof (JSON.parse(text) as { ok: unknown }).ok, finishReason]).toEqual(['boolean', 'stop']);
    const regex = model.generate(stories.prompt, {
      ...options,
      responseFormat: { type: 'regex', pattern: '[0-9]{3}' },
    });
    expect((await regex.result).text).toMatch(/^[0-9]{3}$/);
  });

  it('rejects with the reason of an abort, and goes on afterwards', async () => {
    using model = await loadModel(STORIES, { device });
    const abort = new AbortController();
    const reason = new Error('enough');
    const text = model.generate(stories.prompt, { maxTokens: 80, signal: abort.signal });
    const tokens: number[] = [];
    const reading = (async (): Promise<void> => {
      for await (const { token } of text) {
        tokens.push(token);
        if (tokens.length === 3) abort.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    await expect(text.result).rejects.toBe(reason);
    expect(tokens).toEqual(stories.greedy_ids.slice(0, 3));

    const again = await model.generate(stories.prompt, { maxTokens: 5 }).result;
    expect(again.tokens).toEqual(stories.greedy_ids.slice(0, 5));
  });

  it('refuses to load once aborted', async () => {
    const reason = new Error('too late');
    await expect(loadModel(STORIES, { device, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

it('loads files that a user chose', async () => {
  const names = [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ];
  const files = await Promise.all(
    names.map(async (name) => new File([await (await fetch(new URL(name, STORIES))).blob()], name)),
  );
  using model = await loadModel(files, { device });
  const result = await model.generate(stories.prompt, { maxTokens: 20 }).result;
  expect(result.tokens).toEqual(stories.greedy_ids.slice(0, 20));
});

it('loads a GGUF file that a user chose, with its tokenizer, in blocks of eight bits', async () => {
  const fetched = async (path: string, name: string): Promise<File> =>
    new File([await (await fetch(new URL(`/tests/fixtures/${path}`, location.href))).blob()], name);
  using model = await loadModel(await fetched('gguf/llama-q8_0.gguf', 'm.gguf'), { device });
  expect(model.tokenizer.encode('Once upon a time')).toEqual([1, 403, 407, 261, 378]);
  expect([...model.runtime.constants.values()].some(({ dtype }) => dtype === 'q8')).toBe(true);

  const files = openBrowserFolder(await fetched('models/llama/golden.safetensors', 'golden.safetensors'));
  const file = await files.file('golden.safetensors');
  if (file === undefined) throw new Error('The golden is not there.');
  const { inputIds, logits } = await readGolden(await openSafetensors(file));
  const [tokens = [], expected = new Float32Array()] = [inputIds[0], logits[0]];
  const actual = await model.logits(tokens, { positions: 'all' });
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const error = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? NaN))), 0);
  // The rounding of Q8_0, as in Node.
  expect(error / largest).toBeLessThan(0.02);
});

it('the shipped hybrid writes the tokens that it writes in Node', async () => {
  using model = await loadModel(hybrid, { device });
  const [prose] = golden.models.hybrid;
  const result = await model.generate(prose?.inputIds ?? [], { maxTokens: 12, ignoreEos: true }).result;
  expect(result.tokens).toEqual(prose?.greedy.slice(0, 12));

  // The same in parts, through sessions that are forked, saved, restored and rewound.
  const write = async (session: Session, maxTokens: number): Promise<readonly number[]> =>
    (await session.generate({ maxTokens, ignoreEos: true }).result).tokens;
  const session = model.session();
  await session.append(prose?.inputIds ?? []);
  expect(await write(session, 5)).toEqual(result.tokens.slice(0, 5));
  const others = [session.fork(), await model.restore(await session.save())];
  for (const each of [...others, session]) expect(await write(each, 7)).toEqual(result.tokens.slice(5));
  await session.rewind(session.length - 4);
  expect(await write(session, 4)).toEqual(result.tokens.slice(8));

  const { weightsBytes, stateBytes, kvBytesPerToken } = model.memory();
  expect(weightsBytes).toBeGreaterThan(3 * 10 ** 6);
  expect(weightsBytes).toBeLessThan(4 * 10 ** 6);
  expect(stateBytes).toBeGreaterThan(0);
  // One attention layer: keys and values of 2 heads of 64, in f16.
  expect(kvBytesPerToken).toBe(2 * 2 * 64 * 2);
});
