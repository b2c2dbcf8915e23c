import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createChatTemplate } from '../../../packages/models/src/text/chat_template.ts';
import type { ChatMessage, ChatTemplateOptions } from '../../../packages/models/src/text/chat_template.ts';
import { strftime } from '../../../packages/models/src/text/strftime.ts';
import { readFixture, readText } from '../../support/fixtures.ts';

const chatMl =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi' },
];

describe('createChatTemplate', () => {
  it('renders a conversation', () => {
    const template = createChatTemplate({ chat_template: chatMl });
    const conversation = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n';
    expect(template.exists).toBe(true);
    expect(template.render(messages)).toBe(`${conversation}<|im_start|>assistant\n`);
    expect(template.render(messages, { addGenerationPrompt: false })).toBe(conversation);
  });

  it('gives templates the special tokens, the tools and further variables', () => {
    const source =
      '{{ bos_token }}|{{ eos_token }}|{{ tools is none }}|{{ mood }}|{{ tools | tojson if tools else "" }}';
    const template = createChatTemplate({ bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: source });
    expect(template.render([], { variables: { mood: 'calm' } })).toBe('<s>|</s>|true|calm|');
    expect(template.render([], { tools: [{ name: 'f' }] })).toBe('<s>|</s>|false||[{"name": "f"}]');
  });

  it('makes texts of values as Python does, and nothing of what is undefined', () => {
    const source =
      '{{ nothing | string }}|{{ messages[0].id | string + "." }}|{{ 7 | string }}|{{ "a" | string | upper }}';
    expect(createChatTemplate({ chat_template: source }).render(messages)).toBe('|.|7|A');
  });

  it('drops the newline after a block and the blanks before it, as transformers does', () => {
    const source = '{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\nend';
    expect(createChatTemplate({ chat_template: source }).render(messages)).toBe('system\nuser\nend');
  });

  it('prefers chat_template.jinja, and the template for tools where tools are given', () => {
    expect(createChatTemplate({ chat_template: 'old' }, { jinja: 'new' }).render([])).toBe('new');
    const named = createChatTemplate({
      chat_template: [
        { name: 'default', template: 'plain' },
        { name: 'tool_use', template: 'with tools' },
      ],
    });
    expect(named.render([])).toBe('plain');
    expect(named.render([], { tools: [] })).toBe('with tools');
    expect(named.names).toEqual(['default', 'tool_use']);
    expect(named.render([], { template: 'tool_use' })).toBe('with tools');
    expect(() => named.render([], { template: 'rag' })).toThrow(/no chat template 'rag'.*default, tool_use/);
    const inJson = createChatTemplate({ chat_template: 'old' }, { json: { chat_template: 'new' } });
    expect(inJson.render([])).toBe('new');
  });

  it('says so where the model has no template', () => {
    const template = createChatTemplate({ bos_token: '<s>' });
    expect(template.exists).toBe(false);
    expect(() => template.render(messages)).toThrow(UnsupportedModelError);
    expect(() => createChatTemplate(undefined).render(messages)).toThrow(/no chat template/);
  });

  it('tells an unreadable template from one that refuses the messages', () => {
    const unreadable = createChatTemplate({ chat_template: '{% for %}' });
    expect(() => unreadable.render(messages)).toThrow(UnsupportedModelError);
    const strict = createChatTemplate({ chat_template: "{{ raise_exception('roles must alternate') }}" });
    expect(() => strict.render(messages)).toThrow(ArgumentError);
    expect(() => strict.render(messages)).toThrow(/roles must alternate/);
  });
});

interface Conversations {
  readonly cases: Readonly<Record<string, ChatTemplateOptions & { readonly messages: readonly ChatMessage[] }>>;
  /** Special tokens for each template. */
  readonly tokens: Readonly<Record<string, Readonly<Record<string, string>>>>;
}
type Rendered = Readonly<Record<string, Readonly<Record<string, string | { readonly error: string }>>>>;

const { cases, tokens } = readFixture<Conversations>('text/chat/cases.json');
const rendered = Object.entries(readFixture<Rendered>('text/chat/expected.json'));

/** A text, or what the template said when it refused. */
function outcome(render: () => string): string | { readonly error: string } {
  try {
    return render();
  } catch (error) {
    if (!(error instanceof ArgumentError && error.cause instanceof Error)) throw error;
    return { error: error.cause.message };
  }
}

describe.each(rendered)('the template %s', (name, texts) => {
  const template = createChatTemplate(tokens[name], { jinja: readText(`text/chat/${name}.jinja`) });
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each(Object.entries(texts))('renders "%s" as transformers does', (title, expected) => {
    vi.useFakeTimers({ now: new Date(2026, 2, 5, 9, 7, 3), toFake: ['Date'] });
    const { messages: conversation = [], ...options } = cases[title] ?? {};
    expect(outcome(() => template.render(conversation, options))).toEqual(expected);
  });
});

describe('dates', () => {
  it.each([
    [new Date(2024, 1, 29, 0, 5, 9), '%Y-%m-%d %I:%M %p, %j', '2024-02-29 12:05 AM, 060'],
    [new Date(2023, 11, 31, 23, 59, 59), '%a %A %b %B %y %H%S %% %Q %', 'Sun Sunday Dec December 23 2359 % %Q %'],
  ])('%s as %j is %j', (date, format, text) => {
    expect(strftime(date, format)).toBe(text);
  });
});
