import { describe, expect, it } from 'vitest';
import type { ToolCallPart } from '../../../packages/models/src/tool_calls/index.ts';
import { ToolCallParser } from '../../../packages/models/src/tool_calls/index.ts';

interface Read {
  readonly text: string;
  readonly calls: readonly (readonly [string, unknown])[];
  readonly parts: readonly ToolCallPart[];
}

function read(pieces: readonly string[]): Read {
  const parser = new ToolCallParser();
  const texts: string[] = [];
  const parts: ToolCallPart[] = [];
  for (const piece of pieces) {
    const parsed = parser.push(piece);
    texts.push(parsed.text);
    parts.push(...parsed.parts);
  }
  const rest = parser.flush();
  return {
    text: texts.join('') + rest.text,
    calls: parser.calls.map(({ name, arguments: given }) => [name, given]),
    parts: [...parts, ...rest.parts],
  };
}

const WEATHER = ['weather', { city: 'Zürich; "CH"', days: [1, 2], at: { x: '}' } }] as const;
const CLOCK = ['clock', {}] as const;
const json = (name: string, parameters: unknown, key = 'arguments'): string =>
  JSON.stringify({ name, [key]: parameters });
const weather = json(...WEATHER);

describe('calls of tools', () => {
  it.each<[string, string, string, readonly (readonly [string, unknown])[]]>([
    ['Hermes and Qwen', `I look.\n<tool_call>\n${weather}\n</tool_call>`, 'I look.\n', [WEATHER]],
    [
      'Hermes, two with a text between',
      `<tool_call>${weather}</tool_call> and <tool_call>${json(...CLOCK)}</tool_call>.`,
      ' and .',
      [WEATHER, CLOCK],
    ],
    ['Llama 3, a tag', `<|python_tag|>${json(...WEATHER, 'parameters')}`, '', [WEATHER]],
    ['Llama 3, two', `<|python_tag|>${json(...WEATHER, 'parameters')}; ${json(...CLOCK)}`, '', [WEATHER, CLOCK]],
    ['Llama 3, JSON alone', `\n${json(...WEATHER, 'parameters')}`, '', [WEATHER]],
    ['Llama 3, the type function', `{"type": "function", ${weather.slice(1)}`, '', [WEATHER]],
    ['Granite', `<|tool_call|>[${weather}, ${json(...CLOCK)}]`, '', [WEATHER, CLOCK]],
    ['Granite with the other tag', `<tool_call>[${weather}]`, '', [WEATHER]],
    ['Mistral', `[TOOL_CALLS] [${weather}]`, '', [WEATHER]],
    ['Mistral, named', `[TOOL_CALLS]weather${JSON.stringify(WEATHER[1])}`, '', [WEATHER]],
    [
      'Mistral, named with marks',
      `[TOOL_CALLS]weather[ARGS]${JSON.stringify(WEATHER[1])}[TOOL_CALLS]clock[CALL_ID]ab1[ARGS]{}`,
      '',
      [WEATHER, CLOCK],
    ],
    ['arguments as text', `<tool_call>{"name": "clock", "arguments": "{}"}</tool_call>`, '', [CLOCK]],
  ])('of %s are read from pieces of any size', (_name, text, rest, calls) => {
    const whole = read([text]);
    expect([whole.text, whole.calls]).toEqual([rest, calls]);
    for (let cut = 1; cut < text.length; cut++) {
      const split = read([text.slice(0, cut), text.slice(cut)]);
      expect([split.text, split.calls]).toEqual([rest, calls]);
    }
    const letters = read([...text]);
    expect([letters.text, letters.calls]).toEqual([rest, calls]);
  });

  it.each([
    'plain text',
    'less < than, and [TOOL_ but no more',
    '<tool_call>{"name": "weather"',
    '<tool_call>not JSON</tool_call> and on',
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
    '{"answer": 42}',
    '{"name": "weather", "arguments": {}} and then a text',
    '[TOOL_CALLS]',
    '<|python_tag|>print("hello")',
  ])('that are malformed stay text: %s', (text) => {
    for (const pieces of [[text], [...text], [text.slice(0, 5), text.slice(5)]]) {
      const found = read(pieces);
      expect([found.text, found.calls]).toEqual([text, []]);
      expect(found.parts.filter(({ call }) => call !== undefined)).toEqual([]);
    }
  });

  it('show their name and arguments before they are complete', () => {
    const parser = new ToolCallParser();
    const parts = [...`<tool_call>${weather}`].flatMap((letter) => parser.push(letter).parts);
    expect(parts[0]).toEqual({ index: 0, id: 'call_0', name: 'weather' });
    const written = parts.map(({ argumentsText = '' }) => argumentsText).join('');
    expect(written).toBe(JSON.stringify(WEATHER[1]));
    expect(parts.length).toBeGreaterThan(20);
    const [end] = parser.push('</tool_call>').parts;
    expect(end).toEqual({ index: 0, id: 'call_0', call: { id: 'call_0', name: 'weather', arguments: WEATHER[1] } });
  });

  it('have their arguments in the parts exactly once', () => {
    for (const text of [`<|tool_call|>[${weather}, ${json(...CLOCK)}]`, `<|python_tag|>${weather}`]) {
      for (const pieces of [[text], [...text]]) {
        const { parts, calls } = read(pieces);
        for (const [index, [name, given]] of calls.entries()) {
          const own = parts.filter((part) => part.index === index);
          expect(own.flatMap((part) => part.name ?? [])).toEqual([name]);
          expect(JSON.parse(own.map((part) => part.argumentsText ?? '').join(''))).toEqual(given);
        }
      }
    }
  });
});
