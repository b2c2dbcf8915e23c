import type { LanguageModel, TextOptions } from '../language_model.ts';
import type { ChatMessage } from '../text/chat_template.ts';

const OPEN = '<think>';
const CLOSE = '</think>';

/** What a piece of a text settled. */
export interface SplitText {
  readonly reasoning: string;
  readonly text: string;
}

/**
 * Takes what a model thinks before it answers out of a text that comes in pieces: what stands between `<think>` and
 * `</think>` at its beginning. White space around the marks belongs to neither part.
 */
export class ReasoningSplitter {
  #state: 'begin' | 'reasoning' | 'between' | 'text';
  #held = '';

  /** @param isOpen whether the prompt ends with `<think>`, as some templates have it */
  constructor(isOpen: boolean) {
    this.#state = isOpen ? 'reasoning' : 'begin';
    this.#isFresh = true;
  }

  /** Whether nothing of the thought has come yet: white space after the mark is left out. */
  #isFresh: boolean;

  get isReasoning(): boolean {
    return this.#state === 'reasoning';
  }

  push(piece: string): SplitText {
    this.#held += piece;
    let reasoning = '';
    if (this.#state === 'begin') {
      const begun = this.#held.trimStart();
      if (begun.startsWith(OPEN)) {
        this.#held = begun.slice(OPEN.length);
        this.#state = 'reasoning';
      } else if (OPEN.startsWith(begun)) {
        return { reasoning, text: '' };
      } else {
        this.#state = 'text';
      }
    }
    if (this.#state === 'reasoning') reasoning = this.#takeReasoning();
    if (this.#state === 'between') {
      this.#held = this.#held.trimStart();
      if (this.#held !== '') this.#state = 'text';
    }
    return { reasoning, text: this.#state === 'text' ? this.#take(this.#held.length) : '' };
  }

  /** What was held back, where nothing more comes. */
  flush(): SplitText {
    const rest = this.#take(this.#held.length);
    return this.#state === 'reasoning' ? { reasoning: rest.trimEnd(), text: '' } : { reasoning: '', text: rest };
  }

  #takeReasoning(): string {
    if (this.#isFresh) this.#held = this.#held.trimStart();
    if (this.#held === '') return '';
    this.#isFresh = false;
    const end = this.#held.indexOf(CLOSE);
    if (end >= 0) {
      const thought = this.#take(end).trimEnd();
      this.#take(CLOSE.length);
      this.#state = 'between';
      return thought;
    }
    // White space may come before the mark, and the end may be the beginning of it.
    let safe = this.#held.length;
    for (let length = Math.min(CLOSE.length - 1, safe); length > 0; length--) {
      if (!CLOSE.startsWith(this.#held.slice(-length))) continue;
      safe -= length;
      break;
    }
    return this.#take(this.#held.slice(0, safe).trimEnd().length);
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }
}

/** How the thought of an answer begins: the prompt ends with its mark, or the model may write one. */
export type Reasoning = 'open' | 'marked';

/** How thoughts of an answer are told apart; undefined for a text that has none, as one that is held to a format. */
export async function reasoningOf(
  { chatTemplate }: LanguageModel,
  messages: readonly ChatMessage[],
  { responseFormat, tools }: Pick<TextOptions, 'responseFormat' | 'tools'>,
): Promise<Reasoning | undefined> {
  if (responseFormat !== undefined || !chatTemplate.exists) return undefined;
  const prompt = await chatTemplate.render(messages, tools === undefined ? {} : { tools });
  return prompt.trimEnd().endsWith(OPEN) ? 'open' : 'marked';
}
