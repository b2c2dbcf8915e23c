import { ArgumentError, UnsupportedModelError } from '@mambalab/models';
import type { LoadOptions } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import type { ModelLoader, ServedSource, WorkerModel } from '@mambalab/models/worker';
import { createWorkerModel, servePort } from '@mambalab/models/worker';
import { languageModel } from '@mambalab/models/ai-sdk';
import { createEngine } from '@mambalab/models/openai';
import { generateText } from 'ai';
import { afterAll, describe, expect, expectTypeOf, it, vi } from 'vitest';
import type { LanguageModel, Model } from '@mambalab/models';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { openTestDevice } from '../support/gpu.ts';

// Both ends of a port, without a worker: what is sent is copied as it would be.

const device = await openTestDevice();
const folder = await copyCheckpoint('stories260k', {
  files: { 'chat_template.jinja': "{{ messages[0].content + '\n' }}" },
});
const model = await loadModel(folder, { device, contextLength: 256, warmUp: false });
afterAll(() => model.dispose());

async function remoteOf(source: ServedSource, path?: string, options?: LoadOptions): Promise<WorkerModel> {
  const { port1, port2 } = new MessageChannel();
  servePort(source, port2);
  return await createWorkerModel(port1, path, options);
}

const remote = await remoteOf(model);
afterAll(() => remote.dispose());

const PROMPT = 'Once upon a time';

describe('a model behind a port', () => {
  it('is what the model is', async () => {
    expectTypeOf<Model>().toExtend<LanguageModel>();
    expectTypeOf<WorkerModel>().toExtend<LanguageModel>();
    expect(remote.spec).toEqual(model.spec);
    expect(remote.config).toEqual(model.config);
    expect(remote.capabilities.features).toEqual(model.capabilities.features);
    expect(remote.contextLength).toBe(256);
    expect(remote.tokenizer.specialIds).toEqual(model.tokenizer.specialIds);
    expect(await remote.memory()).toEqual(model.memory());
    const ids = await remote.tokenizer.encode(PROMPT);
    expect(ids).toEqual(model.tokenizer.encode(PROMPT));
    expect(await remote.tokenizer.decode(ids.values())).toBe(model.tokenizer.decode(ids));
    expect(await remote.chatTemplate.render([{ role: 'user', content: 'x' }])).toBe('x\n');
  });

  it('writes the same text, for each of its readers', async () => {
    const expected = await model.generate(PROMPT, { maxTokens: 8, logprobs: 1 }).result;
    const text = remote.generate(PROMPT, { maxTokens: 8, logprobs: 1 });
    const read = async (): Promise<string> => {
      const parts = [];
      for await (const piece of text) parts.push(piece.text);
      return parts.join('');
    };
    expect(await Promise.all([read(), read()])).toEqual([expected.text, expected.text]);
    expect(await text.result).toMatchObject({ tokens: expected.tokens, logprobs: expected.logprobs });
    const streamed = [];
    for await (const part of text.toReadableStream()) streamed.push(part);
    expect(streamed.join('')).toBe(expected.text);
  });

  it('computes the same numbers', async () => {
    const ids = model.tokenizer.encode(PROMPT);
    const [logits, score, vectors] = [
      await remote.logits(ids, { positions: 'all' }),
      await remote.score(PROMPT, ' there was'),
      await remote.embed([PROMPT, ids], { normalize: true }),
    ];
    expect(logits).toEqual(await model.logits(ids, { positions: 'all' }));
    expect(score).toEqual(await model.score(PROMPT, ' there was'));
    expect(vectors).toEqual(await model.embed([PROMPT, ids], { normalize: true }));
    expect(await remote.logprobs(ids)).toEqual(await model.logprobs(ids));
    const golden = { inputIds: [ids], logits: [logits], greedy: [[]] };
    expect(await remote.verify(golden)).toMatchObject({ passed: true, maxAbsError: 0 });
  });

  it('has sessions that fork, go back, are saved and restored', async () => {
    await using session = remote.session();
    const { tokens } = await session.generate(PROMPT, { maxTokens: 6 }).result;
    const ids = [...model.tokenizer.encode(PROMPT), ...tokens];
    expect(session.tokens).toEqual(ids);
    await using copy = session.fork();
    const bytes = await session.save();
    const [one, two] = [
      (await session.generate({ maxTokens: 4 }).result).tokens,
      (await copy.generate({ maxTokens: 4 }).result).tokens,
    ];
    expect(two).toEqual(one);
    expect(copy.length).toBe(session.length);
    await using restored = await remote.restore(bytes);
    expect(restored.tokens).toEqual(ids);
    expect((await restored.generate({ maxTokens: 4 }).result).tokens).toEqual(one);
    await session.rewind(session.length - 4);
    expect(session.tokens).toEqual(ids);
    expect((await remote.generate([], { session, maxTokens: 4 }).result).tokens).toEqual(one);
    await session.reset();
    expect(session.length).toBe(0);
    await session.append(PROMPT);
    expect(await session.checkpoint()).toBe(session.length);
    expect(session.bytes).toBeGreaterThan(0);
  });

  it('has the faces of other ecosystems, too', async () => {
    const ask = (from: LanguageModel): Promise<unknown> =>
      createEngine(from, { id: 'm' }).completions.create({
        model: 'm',
        prompt: PROMPT,
        max_tokens: 3,
        temperature: 0,
        logprobs: 2,
      });
    const { choices } = Object(await ask(model)) as { choices: unknown };
    expect(await ask(remote)).toMatchObject({ choices });
    const expected = await model.generate([{ role: 'user', content: PROMPT }], { maxTokens: 4 }).result;
    const { text, usage } = await generateText({ model: languageModel(remote), prompt: PROMPT, maxOutputTokens: 4 });
    expect(text).toBe(expected.text);
    expect(usage).toMatchObject({ inputTokens: expected.usage.promptTokens, outputTokens: 4 });
  });
});

describe('an abort', () => {
  it('ends a text with the reason that the page has', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const text = remote.generate(PROMPT, { maxTokens: 200, ignoreEos: true, signal: abort.signal });
    const pieces = [];
    const reading = (async (): Promise<void> => {
      for await (const piece of text) {
        pieces.push(piece);
        if (pieces.length === 3) abort.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    await expect(text.result).rejects.toBe(reason);
    expect(pieces.length).toBeLessThan(6);
    await expect(remote.score('a', 'b', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('is what a reader does that leaves: nothing more is written', async () => {
    const text = remote.generate(PROMPT, { maxTokens: 200, ignoreEos: true });
    let count = 0;
    for await (const _piece of text) {
      count += 1;
      if (count === 3) break;
    }
    expect(await text.result).toMatchObject({ finishReason: 'abort' });
    expect((await text.result).tokens.length).toBe(3);
  });
});

describe('errors', () => {
  it('keep their class, code and hint', async () => {
    const expected = await model.logits([9999]).catch((error: unknown) => error);
    const actual = await remote.logits([9999]).catch((error: unknown) => error);
    if (!(expected instanceof ArgumentError) || !(actual instanceof ArgumentError)) throw new Error('No such error.');
    expect({ ...actual, message: actual.message }).toEqual({ ...expected, message: expected.message });
    await expect(remote.generate(PROMPT, { maxTokens: 0 }).result).rejects.toThrow(ArgumentError);
  });

  it('name what cannot be sent', async () => {
    await expect(remote.generate(PROMPT, { logitsProcessor: () => undefined }).result).rejects.toThrow(
      /logitsProcessor.*cannot be sent/,
    );
    await expect(remote.generate(PROMPT, { draft: model }).result).rejects.toThrow(/draft/);
    await expect(remoteOf(model, undefined, { device })).rejects.toThrow(/device/);
    const circle = { role: 'user', content: () => undefined };
    await expect(remote.chatTemplate.render([circle])).rejects.toThrow(/cannot be sent/);
  });

  it('of a session that could not be made are those of its calls', async () => {
    const session = remote.session();
    const text = session.generate(PROMPT, { maxTokens: 20 });
    const pieces = text[Symbol.asyncIterator]();
    await pieces.next();
    await expect(session.fork().save()).rejects.toThrow(/busy/);
    await pieces.return();
    session.dispose();
    await expect(session.save()).rejects.toThrow(ArgumentError);
    await expect(remote.logits([1], { session: model.session() })).rejects.toThrow(/another model/);
  });
});

describe('models that pages share', () => {
  const load = vi.fn<(source: string, options: LoadOptions) => Promise<Model>>((_source, options) => {
    options.onProgress?.({ phase: 'upload', loadedBytes: 1, totalBytes: 2 });
    return loadModel(folder, { ...options, device, warmUp: false });
  });

  it('are loaded once, and disposed of with the last page', async () => {
    const { port1, port2 } = new MessageChannel();
    const ports = new MessageChannel();
    // One worker, two pages.
    const scope = new EventTarget();
    const { serveModel } = await import('@mambalab/models/worker');
    serveModel(load as ModelLoader, scope);
    const connect = (port: MessagePort): void => {
      scope.dispatchEvent(new MessageEvent('message', { data: 'mambalab:connect', ports: [port] }));
    };
    connect(port2);
    connect(ports.port2);
    const phases: string[] = [];
    const [one, two] = await Promise.all([
      createWorkerModel(port1, folder, { contextLength: 64, onProgress: ({ phase }) => phases.push(phase) }),
      createWorkerModel(ports.port1, folder, { contextLength: 64 }),
    ]);
    expect(load).toHaveBeenCalledTimes(1);
    expect(phases).toContain('upload');
    const dispose = vi.spyOn(await (load.mock.results[0]?.value as Promise<Model>), 'dispose');
    await one.dispose();
    expect(dispose).not.toHaveBeenCalled();
    await expect(one.memory()).rejects.toThrow(/disposed/);
    expect((await two.generate(PROMPT, { maxTokens: 2 }).result).tokens).toHaveLength(2);
    // A page that is gone does not say so itself.
    ports.port1.close();
    await vi.waitFor(() => expect(dispose).toHaveBeenCalledTimes(1));
  });

  it('are not loaded where nobody waits any more', async () => {
    const abort = new AbortController();
    const reason = new Error('changed my mind');
    let given: AbortSignal | undefined;
    const never: ModelLoader = (_source, { signal }) => {
      given = signal;
      return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
    };
    const asked = remoteOf(never, folder, { signal: abort.signal });
    await vi.waitFor(() => expect(given).toBeDefined());
    abort.abort(reason);
    await expect(asked).rejects.toBe(reason);
    await vi.waitFor(() => expect(given?.aborted).toBe(true));
  });

  it('fail with what loading them fails with', async () => {
    const fails: ModelLoader = () =>
      Promise.reject(new UnsupportedModelError('No.', 'Another.', { cause: new TypeError('x') }));
    const error: unknown = await remoteOf(fails, folder).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UnsupportedModelError);
    expect(error).toMatchObject({ code: 'unsupported-model', hint: 'Another.', message: 'No. Another.' });
    expect(error instanceof Error && error.cause).toBeInstanceOf(TypeError);
  });
});
