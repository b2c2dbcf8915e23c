import type { RequestLog } from '@mambalab/models/serve';
import { startServer } from '@mambalab/models/serve';
import { createEngine } from '@mambalab/models/openai';
import { loadModel } from '@mambalab/models/node';
import { Ajv } from 'ajv';
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { openTestDevice } from '../support/gpu.ts';

// The official client against a server with a tiny model.

const TEMPLATE =
  "{% for message in messages %}{{ message.role[0] + ': ' + message.content + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}";

const device = await openTestDevice();
const folder = await copyCheckpoint('stories260k', { files: { 'chat_template.jinja': TEMPLATE } });
const model = await loadModel(folder, { device, contextLength: 512, warmUp: false });
const logs: RequestLog[] = [];
const server = await startServer(createEngine({ stories: model }), {
  port: 0,
  token: 'secret',
  onRequest: (log) => logs.push(log),
});
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'secret', maxRetries: 0 });

beforeEach(() => {
  logs.length = 0;
});

afterAll(async () => {
  await server.close(0);
  model.dispose();
});

const messages = [{ role: 'user' as const, content: 'Once upon a time' }];
const chat = { model: 'stories', messages, temperature: 0, max_tokens: 12 };

describe('chats', () => {
  it('are what the model writes', async () => {
    const expected = await model.generate(messages, { maxTokens: 12, temperature: 0 }).result;
    const answer = await client.chat.completions.create(chat);
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: expected.text, refusal: null },
        logprobs: null,
        finish_reason: 'length',
      },
    ]);
    expect(answer).toMatchObject({ object: 'chat.completion', model: 'stories' });
    const { promptTokens, completionTokens } = expected.usage;
    expect(answer.usage).toEqual({
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    });
    expect(logs).toMatchObject([
      { method: 'POST', status: 200, model: 'stories', promptTokens, completionTokens, outcome: 'done' },
    ]);
  });

  it('are streamed, with usage where it is asked for', async () => {
    const whole = await client.chat.completions.create(chat);
    const stream = await client.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
      whole.choices[0]?.message.content,
    );
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' });
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(chunks.slice(0, -1).map(({ usage }) => usage)).toEqual(chunks.slice(1).map(() => null));
  });

  it('are drawn alike with the same seed, and several are drawn each with its own', async () => {
    const drawn = { ...chat, temperature: 1, seed: 3, max_tokens: 8 };
    const [one, same, several, next] = await Promise.all([
      client.chat.completions.create(drawn),
      client.chat.completions.create(drawn),
      client.chat.completions.create({ ...drawn, n: 2 }),
      client.chat.completions.create({ ...drawn, seed: 4 }),
    ]);
    const texts = several.choices.map(({ message }) => message.content);
    expect(same.choices).toEqual(one.choices);
    expect(texts).toEqual([one.choices[0]?.message.content, next.choices[0]?.message.content]);
    expect(texts[0]).not.toBe(texts[1]);
    expect(several.usage?.completion_tokens).toBe(16);
    expect(several.usage?.prompt_tokens).toBe(one.usage?.prompt_tokens);
  });

  it('end before a stop text', async () => {
    const whole = (await client.chat.completions.create(chat)).choices[0]?.message.content ?? '';
    const stop = whole.slice(6, 9);
    const { choices } = await client.chat.completions.create({ ...chat, stop });
    expect(choices[0]).toMatchObject({
      message: { content: whole.slice(0, whole.indexOf(stop)) },
      finish_reason: 'stop',
    });
  });

  it('have log-probabilities of their tokens', async () => {
    const request = { ...chat, max_tokens: 4, logprobs: true, top_logprobs: 3 };
    const [choice] = (await client.chat.completions.create(request)).choices;
    const content = choice?.logprobs?.content ?? [];
    expect(content).toHaveLength(4);
    expect(content.map(({ token }) => token).join('')).toContain(choice?.message.content?.trim() ?? '-');
    for (const { token, logprob, bytes, top_logprobs: tops } of content) {
      expect(new TextDecoder().decode(Uint8Array.from(bytes ?? []))).toBe(token);
      // The text is greedy.
      expect(tops[0]).toEqual({ token, logprob, bytes });
      expect(tops.map((top) => top.logprob)).toEqual(tops.map((top) => top.logprob).sort((a, b) => b - a));
      expect(tops).toHaveLength(3);
    }
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
    expect(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? [])).toEqual(content);
  });

  it('are JSON of a schema', async () => {
    const schema = { type: 'object', properties: { ok: { enum: ['yes', 7, null] } }, required: ['ok'] };
    const { choices } = await client.chat.completions.create({
      ...chat,
      max_tokens: 80,
      response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } },
    });
    expect(new Ajv({ strict: false }).validate(schema, JSON.parse(choices[0]?.message.content ?? ''))).toBe(true);
    expect(choices[0]?.finish_reason).toBe('stop');
  });
});

describe('tools', () => {
  const place = { type: 'string', enum: ['Rome', 'Oslo'] };
  const parameters = {
    type: 'object',
    properties: { place: { $ref: '#/$defs/place' } },
    required: ['place'],
    $defs: { place },
  };
  const tools = [
    { type: 'function' as const, function: { name: 'weather', description: 'Tells the weather.', parameters } },
    { type: 'function' as const, function: { name: 'time' } },
  ];

  it('are called where one is required, and the conversation goes on with what they gave', async () => {
    const request = { ...chat, tools, tool_choice: 'required' as const, max_tokens: 200 };
    const [choice] = (await client.chat.completions.create(request)).choices;
    expect(choice?.finish_reason).toBe('tool_calls');
    const [call, ...others] = choice?.message.tool_calls ?? [];
    if (call?.type !== 'function' || choice === undefined) throw new Error('There is no call.');
    expect(others).toEqual([]);
    expect(call.id).toMatch(/^\w{9}$/);
    expect(['weather', 'time']).toContain(call.function.name);

    const next = await client.chat.completions.create({
      ...chat,
      messages: [...messages, choice.message, { role: 'tool', tool_call_id: call.id, content: 'It is sunny.' }],
    });
    expect(next.choices[0]?.message.content).not.toBe('');
    expect(next.usage?.prompt_tokens).toBeGreaterThan(10);
  });

  it('are called by name, and streamed', async () => {
    const stream = client.chat.completions.stream({
      ...chat,
      tools,
      tool_choice: { type: 'function', function: { name: 'weather' } },
      max_tokens: 200,
    });
    const answer = await stream.finalChatCompletion();
    const [call] = answer.choices[0]?.message.tool_calls ?? [];
    if (call?.type !== 'function') throw new Error('There is no call.');
    expect(call.function.name).toBe('weather');
    expect(place.enum).toContain(JSON.parse(call.function.arguments).place);
    expect(answer.choices[0]?.finish_reason).toBe('tool_calls');
  });

  it('may stay uncalled, or may not be called', async () => {
    const plain = await client.chat.completions.create(chat);
    const unused = await client.chat.completions.create({ ...chat, tools, tool_choice: 'none' });
    expect(unused.choices).toEqual(plain.choices);
    // The template of this model does not write them.
    const offered = await client.chat.completions.create({ ...chat, tools });
    expect(offered.choices).toEqual(plain.choices);
  });

  it('and an answer of a schema are told apart', async () => {
    const schema = { type: 'object', properties: { mood: { const: 'glad' } }, required: ['mood'] };
    const { choices } = await client.chat.completions.create({
      ...chat,
      tools,
      max_tokens: 200,
      response_format: { type: 'json_schema', json_schema: { name: 'mood', schema } },
    });
    const [choice] = choices;
    if (choice?.finish_reason === 'tool_calls') expect(choice.message.tool_calls).toHaveLength(1);
    else expect(JSON.parse(choice?.message.content ?? '')).toEqual({ mood: 'glad' });
  });
});

describe('completions', () => {
  const prompt = 'Once upon a time, there was';

  it('continue texts and token ids', async () => {
    const ids = model.tokenizer.encode(prompt);
    const expected = await model.generate(prompt, { maxTokens: 6 }).result;
    const request = { model: 'stories', max_tokens: 6, temperature: 0 };
    const { choices, usage } = await client.completions.create({ ...request, prompt: [prompt, prompt], n: 1 });
    expect(choices.map(({ text, index }) => [index, text])).toEqual([
      [0, expected.text],
      [1, expected.text],
    ]);
    expect(usage?.prompt_tokens).toBe(2 * ids.length);
    const stream = await client.completions.create({ ...request, prompt: ids, stream: true });
    const texts = [];
    for await (const { choices: parts } of stream) texts.push(parts[0]?.text);
    expect(texts.join('')).toBe(expected.text);
  });

  it('repeat and rate prompts, as evaluation harnesses ask for', async () => {
    const ids = model.tokenizer.encode(prompt);
    const other = ids.slice(0, 4);
    const request = { model: 'stories', prompt: [ids, other], temperature: 0, echo: true, logprobs: 1, seed: 1 };
    const { choices } = await client.completions.create({ ...request, max_tokens: 1 });
    const expected = await model.score(ids.slice(0, 1), ids.slice(1));
    const {
      tokens = [],
      token_logprobs: rated = [],
      top_logprobs: tops = [],
      text_offset: offsets = [],
    } = choices[0]?.logprobs ?? {};
    expect(tokens).toHaveLength(ids.length + 1);
    expect([rated[0], tops[0]]).toEqual([null, null]);
    for (const [at, logprob] of expected.tokenLogprobs.entries()) expect(rated[at + 1]).toBeCloseTo(logprob, 4);
    // What a harness looks at: a token is greedy where its value is that of the best one, to the bit.
    const isBest = rated.slice(1).map((value, at) => value === Math.max(...Object.values(tops[at + 1] ?? {})));
    expect(isBest.slice(0, -1).every(Boolean)).toBe(expected.isGreedy);
    expect(isBest.at(-1)).toBe(true);
    const text = choices[0]?.text ?? '';
    expect(text.startsWith(prompt)).toBe(true);
    expect(offsets.slice(0, 3)).toEqual([0, 0, tokens[1]?.length]);
    expect(choices[1]?.logprobs?.tokens).toHaveLength(5);

    const silent = await client.completions.create({ ...request, max_tokens: 0 });
    expect(silent.choices[0]).toMatchObject({ text: prompt, finish_reason: 'length' });
    expect(silent.choices[0]?.logprobs?.token_logprobs).toEqual(rated.slice(0, -1));
    expect(silent.usage?.completion_tokens).toBe(0);
  });
});

describe('embeddings', () => {
  it('are vectors of length 1, in both encodings', async () => {
    const input = ['a cat', 'a dog'];
    const expected = await model.embed(input, { normalize: true });
    const packed = await client.embeddings.create({ model: 'stories', input });
    const plain = await client.embeddings.create({ model: 'stories', input, encoding_format: 'float' });
    expect(packed.data.map(({ embedding }) => Float32Array.from(embedding))).toEqual(expected);
    expect(plain.data).toEqual(packed.data.map((item) => ({ ...item, embedding: [...item.embedding] })));
    expect(Math.hypot(...(plain.data[1]?.embedding ?? []))).toBeCloseTo(1, 5);
    const ids = await client.embeddings.create({ model: 'stories', input: model.tokenizer.encode('a cat') });
    expect(ids.data[0]?.embedding).toEqual(packed.data[0]?.embedding);
    expect(ids.usage.prompt_tokens).toBe(model.tokenizer.encode('a cat').length);
  });
});

describe('models', () => {
  it('are listed and described', async () => {
    const listed = [];
    for await (const item of client.models.list()) listed.push(item);
    expect(listed).toMatchObject([{ id: 'stories', object: 'model' }]);
    expect(await client.models.retrieve('stories')).toEqual(listed[0]);
    await expect(client.models.retrieve('other')).rejects.toThrow(NotFoundError);
  });
});

describe('what goes wrong', () => {
  it.each([
    [{ temperature: 3 }, 'temperature', 'invalid_value'],
    [{ max_tokens: 1.5 }, 'max_tokens', 'invalid_type'],
    [{ messages: [] }, 'messages', 'empty_array'],
    [{ messages: [{ role: 'poet', content: '' }] }, 'messages[0].role', 'invalid_value'],
    [{ top_logprobs: 2 }, 'top_logprobs', null],
    [{ audio: {} }, 'audio', 'unsupported_parameter'],
    [{ logit_bias: { 9999: 1 } }, 'logit_bias', 'invalid_value'],
    [{ messages: [{ role: 'user', content: 'word '.repeat(600) }] }, null, 'context_length_exceeded'],
  ])('%j is a bad request', async (change, param, code) => {
    for (const stream of [false, true]) {
      const asked = client.chat.completions.create({ ...chat, ...change, stream } as never);
      await expect(asked).rejects.toThrow(BadRequestError);
      await expect(asked).rejects.toMatchObject({ type: 'invalid_request_error', param, code });
    }
  });

  it('a model that is not there, and a wrong token', async () => {
    const missing = client.chat.completions.create({ ...chat, model: 'gpt' });
    await expect(missing).rejects.toThrow(NotFoundError);
    await expect(missing).rejects.toMatchObject({ code: 'model_not_found', param: 'model' });
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'guess', maxRetries: 0 });
    await expect(stranger.chat.completions.create(chat)).rejects.toThrow(AuthenticationError);
  });
});

describe('a text that is left', () => {
  /** How many requests the server says are running. */
  const running = async (): Promise<number> => {
    const answer = await fetch(`${server.url}/metrics`, { headers: { authorization: 'Bearer secret' } });
    return Number(/^mambalab_requests_running (\d+)$/m.exec(await answer.text())?.[1]);
  };
  const long = { ...chat, max_tokens: 400, logit_bias: { 2: -100 } };

  it('stops on the GPU where the client ends the stream', async () => {
    const stream = await client.chat.completions.create({ ...long, stream: true });
    let count = 0;
    for await (const _chunk of stream) {
      count += 1;
      if (count === 5) break;
    }
    await vi.waitFor(() => expect(logs.at(-1)).toMatchObject({ outcome: 'left' }), 5000);
    // It was written no further than the reader and the network took it.
    expect(logs.at(-1)?.completionTokens ?? 0).toBeLessThan(300);
    expect(await running()).toBe(0);
    expect(model.scheduler.batched).toBe(0);
  });

  it('stops where a whole answer is waited for', async () => {
    const abort = new AbortController();
    const asked = client.chat.completions.create(long, { signal: abort.signal });
    setTimeout(() => abort.abort(), 100);
    await expect(asked).rejects.toThrow('aborted');
    await vi.waitFor(() => expect(logs.at(-1)).toMatchObject({ outcome: 'left' }), 5000);
    expect(await running()).toBe(0);
  });
});
