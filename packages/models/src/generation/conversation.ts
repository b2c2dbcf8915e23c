import type { ChatMessage } from '../text/chat_template.ts';

/** A text, token ids, or messages. */
export type PromptPart = string | readonly number[] | readonly ChatMessage[];

/** The messages of a session and how they were written. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** The text of all tokens. */
  readonly text: string;
  /** Tokens that the session had with its last message. */
  readonly length: number;
}

/** How the tokens of a session change: it keeps some, and others follow. */
export interface Edit {
  readonly keep: number;
  readonly tokens: readonly number[];
  /** What all of it is as a conversation, as far as that is known. */
  readonly conversation?: Omit<Conversation, 'length'>;
  /** Tokens at the beginning that other conversations may share; 0 where there are none. */
  readonly shared: number;
}

/** What turns prompts into tokens. */
export interface PromptWriter {
  encode(text: string, addSpecialTokens: boolean): readonly number[];
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean, tools: readonly unknown[] | undefined): string;
}

export function isMessages(prompt: unknown): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && prompt.length > 0 && typeof prompt[0] === 'object';
}

/**
 * The tokens that follow those of a session. Messages join the conversation so far, which is rendered anew: where the
 * rendered text begins with the text of the session, the rest of it follows; where the template writes earlier turns in
 * another way than they were (it leaves out what a model thought, say), all from the first token that differs.
 *
 * @param part absent where a conversation is to be answered as it is
 */
export function editFor(
  writer: PromptWriter,
  tokens: readonly number[],
  conversation: Conversation | undefined,
  part: PromptPart | undefined,
  isAnswered: boolean,
  tools?: readonly unknown[],
): Edit {
  const plain = { keep: tokens.length, shared: 0 };
  const current = conversation?.length === tokens.length ? conversation : undefined;
  const isOpen = current !== undefined && isAnswered && current.messages.at(-1)?.role !== 'assistant';
  if (part === undefined && !isOpen) return { ...plain, tokens: [] };
  if (typeof part === 'string') return { ...plain, tokens: writer.encode(part, tokens.length === 0) };
  if (part !== undefined && !isMessages(part)) return { ...plain, tokens: part };
  const messages = [...(current?.messages ?? []), ...(part ?? [])];
  const text = writer.render(messages, isAnswered, tools);
  if (current === undefined && tokens.length > 0) return { ...plain, tokens: writer.encode(text, false) };
  const written = { messages, text };
  if (current !== undefined && text.startsWith(current.text)) {
    const rest = writer.encode(text.slice(current.text.length), false);
    return { ...plain, tokens: rest, conversation: written };
  }
  const all = writer.encode(text, false);
  const keep = commonLength(tokens, all);
  const shared = tokens.length === 0 ? sharedBeginning(writer, messages, all, tools) : 0;
  return { keep, tokens: all.slice(keep), conversation: written, shared };
}

/** Tokens of the system message alone, which other conversations may begin with as well; 0 where there is none. */
export function sharedBeginning(
  writer: PromptWriter,
  messages: readonly ChatMessage[],
  all: readonly number[],
  tools: readonly unknown[] | undefined,
): number {
  const [first, ...others] = messages;
  if (first?.role !== 'system' || others.length === 0) return 0;
  try {
    return commonLength(writer.encode(writer.render([first], false, tools), false), all);
  } catch {
    // Some templates refuse a conversation without a question: then nothing is known to be shared.
    return 0;
  }
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const difference = a.findIndex((token, index) => token !== b[index]);
  return difference < 0 ? Math.min(a.length, b.length) : difference;
}
