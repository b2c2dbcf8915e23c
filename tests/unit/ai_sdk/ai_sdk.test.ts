import { createProvider, embeddingModel, languageModel } from '@mambalab/models/ai-sdk';
import type { EmbeddingModel, LanguageModel } from 'ai';
import {
  createProviderRegistry,
  embed,
  embedMany,
  generateText,
  isStepCount,
  jsonSchema,
  Output,
  streamText,
  tool,
} from 'ai';
import { describe, expect, expectTypeOf, it, vi } from 'vitest';
import { scriptedModel } from '../../support/scripted_model.ts';

// The real AI SDK on a model that writes what the test says. Its warnings are results here.
vi.stubGlobal('AI_SDK_LOG_WARNINGS', false);

const prompt = 'Hello';
const CALL = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>';
const numbers = jsonSchema<{ a: number; b: number }>({
  type: 'object',
  properties: { a: { type: 'number' }, b: { type: 'number' } },
  required: ['a', 'b'],
});
const add = tool({
  description: 'Adds.',
  inputSchema: numbers,
  execute: ({ a, b }) => Promise.resolve({ sum: a + b }),
});

it('is of the current specification', () => {
  const model = scriptedModel({ text: () => '' });
  expectTypeOf(languageModel(model)).toExtend<LanguageModel>();
  expectTypeOf(embeddingModel(model)).toExtend<EmbeddingModel>();
  expect(languageModel(model)).toMatchObject({ specificationVersion: 'v4', provider: 'mambalab', modelId: 'scripted' });
});

describe('texts', () => {
  it('are written whole, with what they took', async () => {
    const model = scriptedModel({ text: () => 'Hello there.', render: () => '' });
    const { text, usage, finishReason, warnings } = await generateText({
      model: languageModel(model),
      instructions: 'Be kind.',
      prompt,
      temperature: 0.5,
      topK: 3,
      maxOutputTokens: 9,
      seed: 1,
      stopSequences: ['x'],
      providerOptions: { mambalab: { minP: 0.1 } },
    });
    expect(text).toBe('Hello there.');
    expect(finishReason).toBe('stop');
    expect(usage).toMatchObject({ inputTokens: 7, outputTokens: 4, totalTokens: 11 });
    expect(warnings ?? []).toEqual([]);
    expect(model.calls[0]?.prompt).toEqual([
      { role: 'system', content: 'Be kind.' },
      { role: 'user', content: prompt },
    ]);
    const options = { temperature: 0.5, topK: 3, maxTokens: 9, seed: 1, stop: ['x'], minP: 0.1 };
    expect(model.calls[0]?.options).toMatchObject(options);
  });

  it('are streamed, with thoughts apart', async () => {
    const model = scriptedModel({ text: () => '<think>Hm, hm.</think>Yes, sir.', render: () => 'a:' });
    const result = streamText({ model: languageModel(model), prompt });
    const parts: string[] = [];
    for await (const part of result.textStream) parts.push(part);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.join('')).toBe('Yes, sir.');
    expect(await result.reasoningText).toBe('Hm, hm.');
    expect((await result.usage).outputTokenDetails.reasoningTokens).toBeGreaterThan(1);
    expect(await result.finishReason).toBe('stop');
  });

  it('are cut where they may not be longer', async () => {
    const model = scriptedModel({ text: () => 'abcdef' });
    const result = await generateText({ model: languageModel(model), prompt, maxOutputTokens: 1 });
    expect(result).toMatchObject({ text: 'abc', finishReason: 'length' });
  });

  it('are prompted as the caller says where a model has no template', async () => {
    const model = scriptedModel({ text: () => 'ok' });
    const toPrompt = (messages: readonly { content: unknown }[]): string => `Q: ${String(messages[0]?.content)}\nA:`;
    await generateText({ model: languageModel(model, { toPrompt }), prompt });
    expect(model.calls[0]?.prompt).toBe('Q: Hello\nA:');
  });
});

describe('objects', () => {
  it('are of a schema, whole and streamed', async () => {
    const model = scriptedModel({ text: () => '{"a": 1, "b": 2}' });
    const output = Output.object({ schema: numbers });
    expect((await generateText({ model: languageModel(model), prompt, output })).output).toEqual({ a: 1, b: 2 });
    expect(model.calls[0]?.options.responseFormat).toMatchObject({
      type: 'json_schema',
      schema: { type: 'object', required: ['a', 'b'] },
    });
    const partial: unknown[] = [];
    const { partialOutputStream } = streamText({ model: languageModel(model), prompt, output });
    for await (const part of partialOutputStream) partial.push(part);
    expect(partial.at(-1)).toEqual({ a: 1, b: 2 });
    expect(partial.length).toBeGreaterThan(1);
  });
});

describe('tools', () => {
  const script = { text: (_call: unknown, at: number): string => (at % 2 === 0 ? `Well. ${CALL}` : 'Three.') };

  it('are called, and the conversation goes on with what they gave', async () => {
    const model = scriptedModel(script);
    const stopWhen = isStepCount(3);
    const { text, steps } = await generateText({ model: languageModel(model), prompt, tools: { add }, stopWhen });
    expect(text).toBe('Three.');
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(['tool-calls', 'stop']);
    expect(steps[0]?.toolResults[0]).toMatchObject({ toolName: 'add', output: { sum: 3 } });
    const id = steps[0]?.toolCalls[0]?.toolCallId;
    expect(model.calls[1]?.prompt).toMatchObject([
      { role: 'user' },
      {
        role: 'assistant',
        content: 'Well. ',
        tool_calls: [{ id, type: 'function', function: { name: 'add', arguments: { a: 1, b: 2 } } }],
      },
      { role: 'tool', tool_call_id: id, name: 'add', content: '{"sum":3}' },
    ]);
    expect(model.calls[0]?.options.tools).toMatchObject([{ type: 'function', function: { name: 'add' } }]);
  });

  it('are streamed, their inputs in pieces', async () => {
    const result = streamText({ model: languageModel(scriptedModel(script)), prompt, tools: { add } });
    const types: string[] = [];
    const inputs: string[] = [];
    for await (const part of result.fullStream) {
      if (part.type === 'tool-input-delta') inputs.push(part.delta);
      if (types.at(-1) !== part.type) types.push(part.type);
    }
    expect(types.filter((type) => /tool|text/.test(type))).toEqual([
      'text-start',
      'text-delta',
      'text-end',
      'tool-input-start',
      'tool-input-delta',
      'tool-input-end',
      'tool-call',
      'tool-result',
    ]);
    expect(inputs.length).toBeGreaterThan(1);
    expect(JSON.parse(inputs.join(''))).toEqual({ a: 1, b: 2 });
  });

  it('can be required, named, or forbidden', async () => {
    const model = scriptedModel({ text: () => '{"name": "add", "arguments": {"a": 1, "b": 2}}' });
    const ask = async (toolChoice: Parameters<typeof generateText>[0]['toolChoice']): Promise<unknown> => {
      const { toolCalls } = await generateText({
        model: languageModel(model),
        prompt,
        tools: { add },
        toolChoice,
      } as never);
      return [toolCalls.length, model.calls.at(-1)?.options.responseFormat?.type];
    };
    expect(await ask('required')).toEqual([1, 'json_schema']);
    expect(await ask({ type: 'tool', toolName: 'add' } as never)).toEqual([1, 'json_schema']);
    expect(await ask('none')).toEqual([0, undefined]);
    expect(model.calls.at(-1)?.options.tools).toBeUndefined();
  });
});

describe('vectors', () => {
  it('are made one or several at a time', async () => {
    const model = embeddingModel(scriptedModel({ text: () => '' }));
    expect(await embed({ model, value: 'abc' })).toMatchObject({ embedding: [3, 0], usage: { tokens: 3 } });
    const { embeddings, usage } = await embedMany({ model, values: ['a', 'abcd'] });
    expect(embeddings).toEqual([
      [1, 0],
      [4, 0],
    ]);
    expect(usage).toEqual({ tokens: 5 });
  });
});

describe('what goes wrong', () => {
  it('is an error of the library', async () => {
    const model = languageModel(scriptedModel({ text: () => 'abc', failAt: 0 }));
    await expect(generateText({ model, prompt, maxRetries: 2 })).rejects.toMatchObject({ code: 'argument' });
    const unknown = { mambalab: { top: 1 } };
    await expect(generateText({ model, prompt, providerOptions: unknown })).rejects.toThrow(/has 'top'/);
    const file = { type: 'file' as const, mediaType: 'image/png', data: new Uint8Array(4) };
    const messages = [{ role: 'user' as const, content: [file] }];
    await expect(generateText({ model, messages })).rejects.toThrow(/type 'file'/);
  });

  it('on the way of a stream is told in it', async () => {
    const onError = vi.fn();
    const model = languageModel(scriptedModel({ text: () => 'abcdefghi', failAt: 2 }));
    const result = streamText({ model, prompt, onError });
    await result.consumeStream();
    expect(onError).toHaveBeenCalledTimes(1);
    expect(onError.mock.calls[0]?.[0]).toMatchObject({ error: { code: 'argument' } });
  });

  it('and an abort stop the text', async () => {
    const model = scriptedModel({ text: () => 'abc'.repeat(100), delayMs: 2 });
    const abort = new AbortController();
    const onAbort = vi.fn();
    const result = streamText({ model: languageModel(model), prompt, abortSignal: abort.signal, onAbort });
    let count = 0;
    for await (const _part of result.textStream) if (++count === 3) abort.abort();
    expect(onAbort).toHaveBeenCalledTimes(1);
    await vi.waitFor(() => expect(model.running).toBe(0));
    expect(model.calls[0]?.written).toBeLessThan(20);
    const whole = generateText({ model: languageModel(model), prompt, abortSignal: AbortSignal.timeout(20) });
    await expect(whole).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  it('and what cannot be done is a warning', async () => {
    const result = await generateText({
      model: languageModel(scriptedModel({ text: () => 'ok' })),
      prompt,
      reasoning: 'high',
    });
    expect(result.warnings).toMatchObject([{ type: 'unsupported', feature: 'reasoning' }]);
  });
});

it('gives models by their names', async () => {
  const provider = createProvider({ small: scriptedModel({ text: () => 'I am small.' }) });
  const registry = createProviderRegistry({ mambalab: provider });
  expect((await generateText({ model: registry.languageModel('mambalab:small'), prompt })).text).toBe('I am small.');
  expect(() => provider.languageModel('large')).toThrow(/no model 'large'/);
  expect(() => provider.imageModel('small')).toThrow(/no images/);
});
