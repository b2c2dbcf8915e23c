import { ArgumentError } from '@mambalab/models';
import type { ChatCompletionRequest, ChatToolCallDelta } from '@mambalab/models/openai';
import { APIError, createEngine } from '@mambalab/models/openai';
import { describe, expect, it, vi } from 'vitest';
import { callFormat } from '../../../packages/models/src/openai/tools.ts';
import { scriptedModel } from '../../support/scripted_model.ts';

const messages = [{ role: 'user', content: 'Hello' }];
const request = { model: 'scripted', messages };
const tools = ['add', 'say'].map((name) => ({ type: 'function' as const, function: { name, parameters: {} } }));

const CALLS =
  'Let me see. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>' +
  '<tool_call>{"name": "say", "arguments": {"text": "two"}}</tool_call>';

describe('calls of tools that a model makes by itself', () => {
  const engine = createEngine(scriptedModel({ text: () => CALLS }));

  it('are part of a whole answer', async () => {
    const { choices } = await engine.chat.completions.create({ ...request, tools });
    const [choice] = choices;
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: 'Let me see. ' } });
    expect(choice?.message.tool_calls?.map(({ function: call }) => call)).toEqual([
      { name: 'add', arguments: '{"a":1}' },
      { name: 'say', arguments: '{"text":"two"}' },
    ]);
    expect(new Set(choice?.message.tool_calls?.map(({ id }) => id)).size).toBe(2);
  });

  it('are streamed: the name first, then the arguments as they come', async () => {
    const deltas: ChatToolCallDelta[] = [];
    for await (const { choices } of await engine.chat.completions.create({ ...request, tools, stream: true })) {
      deltas.push(...(choices[0]?.delta.tool_calls ?? []));
    }
    const first = deltas.filter(({ index }) => index === 0);
    expect(first[0]).toMatchObject({ type: 'function', function: { name: 'add' } });
    expect(first.filter(({ id }) => id !== undefined)).toHaveLength(1);
    expect(first.length).toBeGreaterThan(2);
    const argumentsOf = (index: number): string =>
      deltas.flatMap((delta) => (delta.index === index ? [delta.function?.arguments ?? ''] : [])).join('');
    expect([argumentsOf(0), argumentsOf(1)].map((text) => JSON.parse(text) as unknown)).toEqual([
      { a: 1 },
      { text: 'two' },
    ]);
  });

  it('are one at most where several are not wanted', async () => {
    const { choices } = await engine.chat.completions.create({ ...request, tools, parallel_tool_calls: false });
    expect(choices[0]?.message.tool_calls).toHaveLength(1);
  });
});

describe('what a model is given', () => {
  const model = scriptedModel({ text: () => 'ok', render: () => '' });
  const engine = createEngine(model);
  const given = async (change: object): Promise<unknown> => {
    await engine.chat.completions.create({ ...request, ...change } as ChatCompletionRequest);
    return model.calls.at(-1);
  };

  it('are messages as templates take them', async () => {
    const call = { id: 'c1', type: 'function', function: { name: 'add', arguments: '{"a":1}' } };
    const turns = [
      {
        role: 'developer',
        content: [
          { type: 'text', text: 'Be ' },
          { type: 'text', text: 'brief.' },
        ],
      },
      { role: 'assistant', content: null, tool_calls: [call], reasoning_content: 'Hm.' },
      { role: 'tool', tool_call_id: 'c1', content: '2' },
    ];
    expect(await given({ messages: turns })).toMatchObject({
      prompt: [
        { role: 'system', content: 'Be brief.' },
        {
          role: 'assistant',
          content: '',
          reasoning_content: 'Hm.',
          tool_calls: [{ id: 'c1', function: { name: 'add', arguments: { a: 1 } } }],
        },
        { role: 'tool', tool_call_id: 'c1', name: 'add', content: '2' },
      ],
    });
  });

  it('are options of the library', async () => {
    const sampling = { temperature: 0.5, top_p: 0.9, top_k: 5, min_p: 0.1, seed: 7, stop: 'x', ignore_eos: true };
    const penalties = { presence_penalty: 1, frequency_penalty: -1, repetition_penalty: 1.1, logit_bias: { 3: -100 } };
    expect(await given({ ...sampling, ...penalties, max_completion_tokens: 5, max_tokens: 9 })).toMatchObject({
      options: {
        temperature: 0.5,
        topP: 0.9,
        topK: 5,
        minP: 0.1,
        seed: 7,
        stop: ['x'],
        ignoreEos: true,
        presencePenalty: 1,
        frequencyPenalty: -1,
        repetitionPenalty: 1.1,
        logitBias: new Map([[3, -100]]),
        maxTokens: 5,
      },
    });
    expect(await given({ response_format: { type: 'regex', pattern: 'a+' } })).toMatchObject({
      options: { responseFormat: { type: 'regex', pattern: 'a+' }, maxTokens: 4096 },
    });
    expect(await given({ temperature: null, user: 'me', store: true })).toMatchObject({ options: { maxTokens: 4096 } });
  });

  it('is a schema of calls where one is required, with references that still lead somewhere', () => {
    const parameters = { $defs: { x: { type: 'string' } }, properties: { x: { $ref: '#/$defs/x' } } };
    expect(callFormat([{ name: 'f', parameters }], { type: 'json_object' })).toMatchObject({
      schema: {
        anyOf: [{ $ref: '#/$defs/form0' }, { $ref: '#/$defs/form1' }],
        $defs: {
          form0: {
            properties: { arguments: { properties: { x: { $ref: '#/$defs/form0/properties/arguments/$defs/x' } } } },
          },
          form1: { type: 'object' },
        },
      },
    });
    expect(callFormat([{ name: 'f', parameters }], { type: 'regex', pattern: 'a' })).toBeUndefined();
  });
});

describe('thoughts', () => {
  it('stand apart from the answer, whole and streamed', async () => {
    const engine = createEngine(scriptedModel({ text: () => '<think>Hm, hm.</think>Yes.', render: () => 'a:' }));
    const whole = await engine.chat.completions.create(request);
    expect(whole.choices[0]?.message).toMatchObject({ content: 'Yes.', reasoning_content: 'Hm, hm.' });
    expect(whole.usage.completion_tokens_details?.reasoning_tokens).toBeGreaterThan(2);
    const parts: string[] = [];
    for await (const { choices } of await engine.chat.completions.create({ ...request, stream: true })) {
      const { reasoning_content: thought, content } = choices[0]?.delta ?? {};
      if (thought !== undefined) parts.push(`(${thought})`);
      else if (content) parts.push(content);
    }
    expect(parts.join('').replaceAll(')(', '')).toBe('(Hm, hm.)Yes.');
  });

  it('may have begun in the prompt', async () => {
    const engine = createEngine(scriptedModel({ text: () => 'Hm.\n</think>\n\nNo.', render: () => 'a: <think>\n' }));
    const { choices } = await engine.chat.completions.create(request);
    expect(choices[0]?.message).toMatchObject({ content: 'No.', reasoning_content: 'Hm.' });
  });
});

describe('several texts', () => {
  it('are written at the same time, and all stop when the reader leaves', async () => {
    const model = scriptedModel({ text: (_call, at) => 'abc'.repeat(50 + at), delayMs: 1 });
    const engine = createEngine(model);
    const onUsage = vi.fn();
    const stream = await engine.chat.completions.create({ ...request, n: 3, stream: true }, { onUsage });
    const seen = new Set<number>();
    for await (const { choices } of stream) {
      seen.add(choices[0]?.index ?? -1);
      if (seen.size === 3) break;
    }
    expect(model.running).toBe(0);
    expect(model.calls.map(({ outcome }) => outcome)).toEqual(['abort', 'abort', 'abort']);
    const written = model.calls.reduce((sum, call) => sum + call.written, 0);
    expect(written).toBeLessThan(20);
    expect(onUsage.mock.calls).toMatchObject([[{ prompt_tokens: 7, completion_tokens: written }, 'scripted']]);
  });

  it('all stop when one fails', async () => {
    const model = scriptedModel({ text: () => 'abc'.repeat(50), failAt: 5 });
    const asked = createEngine(model).chat.completions.create({ ...request, n: 2 });
    await expect(asked).rejects.toMatchObject({ name: 'APIError', status: 400, message: 'The script fails. Do not.' });
    expect(model.running).toBe(0);
  });
});

describe('errors', () => {
  const engine = createEngine(scriptedModel({ text: () => 'ok' }));

  it('are in the form of the API, with what caused them', async () => {
    const error: unknown = await createEngine(scriptedModel({ text: () => 'ok', failAt: 0 }))
      .completions.create({ model: 'scripted', prompt: 'x', stream: true })
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(APIError);
    expect(error instanceof APIError && error.cause).toBeInstanceOf(ArgumentError);
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      error: {
        message: 'The script fails. Do not.',
        type: 'invalid_request_error',
        param: null,
        code: 'invalid_value',
      },
    });
  });

  it('name the field', async () => {
    const asked = (change: object): Promise<unknown> =>
      engine.chat.completions.create({ ...request, ...change } as ChatCompletionRequest);
    const cases: readonly (readonly [object, string])[] = [
      [{ tools: [...tools, tools[0]] }, 'tools'],
      [{ tools, tool_choice: { type: 'function', function: { name: 'nothing' } } }, 'tool_choice'],
      [{ tool_choice: 'required' }, 'tool_choice'],
      [{ tools: [{ type: 'custom' }] }, 'tools[0].type'],
      [{ tools, response_format: { type: 'regex', pattern: 'a' } }, 'response_format'],
      [{ response_format: { type: 'xml' } }, 'response_format.type'],
      [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content[0].type'],
      [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
      [{ stream_options: {} }, 'stream_options'],
      [{ stop: [3] }, 'stop'],
      [{ n: 0 }, 'n'],
      [{ logit_bias: { a: 1 } }, 'logit_bias'],
      [{ functions: [] }, 'functions'],
    ];
    for (const [change, param] of cases) await expect(asked(change)).rejects.toMatchObject({ status: 400, param });
    await expect(engine.chat.completions.create('x' as never)).rejects.toMatchObject({ status: 400 });
    expect(() => createEngine({})).toThrow(ArgumentError);
  });

  it('leave the reason of an abort as it is', async () => {
    const reason = new Error('enough');
    const abort = new AbortController();
    const slow = createEngine(scriptedModel({ text: () => 'abc'.repeat(50), delayMs: 5 }));
    const asked = slow.chat.completions.create(request, { signal: abort.signal });
    abort.abort(reason);
    await expect(asked).rejects.toBe(reason);
    await expect(slow.embeddings.create({ model: 'scripted', input: 'x' }, { signal: abort.signal })).rejects.toBe(
      reason,
    );
  });
});
