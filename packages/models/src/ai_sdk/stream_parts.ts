import type { LanguageModelV4Content, LanguageModelV4FinishReason, LanguageModelV4StreamPart } from '@ai-sdk/provider';
import type { ChatPart } from '../openai/chat_writer.ts';

type Block = 'text' | 'reasoning';

/** Parts of an answer as parts of a stream: each run of text or of reasoning is a block with a beginning and an end. */
export class StreamParts {
  #open: { readonly type: Block; readonly id: string } | undefined;
  #blocks = 0;
  /** Calls that began, by their place. */
  readonly #inputs: string[] = [];

  push({ delta, calls = [], finish }: ChatPart): LanguageModelV4StreamPart[] {
    const parts = [
      ...this.#write('reasoning', delta.reasoning_content ?? ''),
      ...this.#write('text', delta.content ?? ''),
    ];
    for (const { index, id, function: part } of delta.tool_calls ?? []) {
      if (id !== undefined) {
        this.#inputs[index] = id;
        parts.push(...this.#close(), { type: 'tool-input-start', id, toolName: part?.name ?? '' });
      }
      const input = this.#inputs[index];
      const text = part?.arguments ?? '';
      if (input !== undefined && text !== '') parts.push({ type: 'tool-input-delta', id: input, delta: text });
    }
    if (finish === undefined) return parts;
    const called = calls.flatMap(({ id, function: { name, arguments: input } }): LanguageModelV4StreamPart[] => [
      { type: 'tool-input-end', id },
      { type: 'tool-call', toolCallId: id, toolName: name, input },
    ]);
    return [...parts, ...this.#close(), ...called];
  }

  #write(type: Block, delta: string): LanguageModelV4StreamPart[] {
    if (delta === '') return [];
    const before = this.#open;
    if (before?.type === type) return [{ type: `${type}-delta`, id: before.id, delta }];
    const ended = this.#close();
    const id = String(this.#blocks);
    this.#blocks += 1;
    this.#open = { type, id };
    return [...ended, { type: `${type}-start`, id }, { type: `${type}-delta`, id, delta }];
  }

  #close(): LanguageModelV4StreamPart[] {
    const open = this.#open;
    this.#open = undefined;
    return open === undefined ? [] : [{ type: `${open.type}-end`, id: open.id }];
  }
}

/** Parts of a stream as the content of a whole answer. */
export function contentOf(parts: readonly LanguageModelV4StreamPart[]): LanguageModelV4Content[] {
  const content: LanguageModelV4Content[] = [];
  for (const part of parts) {
    const last = content.at(-1);
    if (part.type === 'text-start') content.push({ type: 'text', text: '' });
    else if (part.type === 'reasoning-start') content.push({ type: 'reasoning', text: '' });
    else if (part.type === 'tool-call') content.push(part);
    else if (part.type === 'text-delta' && last?.type === 'text') last.text += part.delta;
    else if (part.type === 'reasoning-delta' && last?.type === 'reasoning') last.text += part.delta;
  }
  return content;
}

export function finishReason(finish: ChatPart['finish']): LanguageModelV4FinishReason {
  return { unified: finish === 'tool_calls' ? 'tool-calls' : (finish ?? 'other'), raw: finish };
}
