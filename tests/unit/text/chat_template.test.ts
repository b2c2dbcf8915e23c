import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { createChatTemplate } from '../../../packages/models/src/text/chat_template.ts';

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

  it('drops the newline after a block and the blanks before it, as transformers does', () => {
    const source = '{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\nend';
    expect(createChatTemplate({ chat_template: source }).render(messages)).toBe('system\nuser\nend');
  });

  it('prefers chat_template.jinja, and the template for tools where tools are given', () => {
    expect(createChatTemplate({ chat_template: 'old' }, 'new').render([])).toBe('new');
    const named = createChatTemplate({
      chat_template: [
        { name: 'default', template: 'plain' },
        { name: 'tool_use', template: 'with tools' },
      ],
    });
    expect(named.render([])).toBe('plain');
    expect(named.render([], { tools: [] })).toBe('with tools');
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
