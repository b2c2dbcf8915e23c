import type { MambalabError } from '@mambalab/kernels';
import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import type { ChatMessage, ChatTemplate } from '../text/chat_template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { PromptPart, PromptWriter } from './conversation.ts';
import { isMessages } from './conversation.ts';

/** What a model knows of texts. */
export interface TextParts {
  readonly tokenizer: Tokenizer | undefined;
  /** Why there is none, where the checkpoint has one that cannot be used. */
  readonly tokenizerProblem?: MambalabError | undefined;
  readonly chatTemplate: ChatTemplate;
  readonly eosTokens: readonly number[];
}

/** Texts and conversations to tokens. */
export class PromptText implements PromptWriter {
  readonly #parts: TextParts;

  constructor(parts: TextParts) {
    this.#parts = parts;
  }

  /** @throws UnsupportedModelError if the checkpoint holds no tokenizer; or what it says is wrong with the one it has */
  get tokenizer(): Tokenizer {
    const { tokenizer, tokenizerProblem } = this.#parts;
    if (tokenizer !== undefined) return tokenizer;
    if (tokenizerProblem !== undefined) throw tokenizerProblem;
    throw new UnsupportedModelError(
      'The checkpoint holds no tokenizer.json.',
      'Give prompts as token ids, or put the tokenizer of the model beside its weights.',
    );
  }

  encode(text: string, addSpecialTokens: boolean): readonly number[] {
    return this.tokenizer.encode(text, { addSpecialTokens });
  }

  render(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    tools: readonly unknown[] | undefined,
  ): string {
    const offered = tools === undefined || tools.length === 0 ? {} : { tools };
    return this.#parts.chatTemplate.render(messages, { addGenerationPrompt, ...offered });
  }

  /** The tokens of a whole prompt, that is to be answered. */
  prompt(prompt: PromptPart, tools: readonly unknown[] | undefined): readonly number[] {
    if (typeof prompt === 'string') return this.tokenizer.encode(prompt);
    if (!isMessages(prompt)) return prompt;
    // A missing template is told first.
    const text = this.render(prompt, true, tools);
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }

  /**
   * The tokens of a text and of what continues it: spaces at the end of the first count to the second, and both are
   * encoded as one text. An empty text is the token that begins, or else ends, sequences.
   */
  pair(
    context: string | readonly number[],
    continuation: string | readonly number[],
  ): readonly [readonly number[], readonly number[]] {
    if (typeof context !== 'string') {
      const second = typeof continuation === 'string' ? this.encode(continuation, false) : continuation;
      return [context, second];
    }
    const { tokenizer } = this;
    const kept = typeof continuation === 'string' ? context.trimEnd() : context;
    const encoded = tokenizer.encode(kept);
    const { bos = this.#parts.eosTokens[0] } = tokenizer.specialIds;
    const first = encoded.length === 0 && bos !== undefined ? [bos] : encoded;
    if (typeof continuation !== 'string') return [first, continuation];
    const text = context.slice(kept.length) + continuation;
    const second =
      encoded.length === 0 ? this.encode(text, false) : tokenizer.encode(kept + text).slice(encoded.length);
    return [first, second];
  }
}

/** @throws ArgumentError unless two vocabularies of so many tokens spell them alike, as far as that is known */
export function requireSameVocabulary(
  own: { readonly size: number; readonly tokenizer: Tokenizer | undefined },
  draft: { readonly size: number; readonly tokenizer: Tokenizer | undefined },
): void {
  const hint = 'Use a smaller model of the same family, with the same vocabulary.';
  if (draft.size !== own.size) {
    throw new ArgumentError(`'draft' has ${draft.size} tokens; this model has ${own.size}.`, hint);
  }
  const difference = firstDifference(own.tokenizer, draft.tokenizer);
  if (difference === undefined) return;
  throw new ArgumentError(`'draft' has another vocabulary: token ${difference} differs.`, hint);
}

/** The first token that two vocabularies spell differently; undefined where one has no spelling at all. */
function firstDifference(one: Tokenizer | undefined, other: Tokenizer | undefined): number | undefined {
  if (one === undefined || other === undefined || one === other) return undefined;
  for (let token = 0; token < Math.max(one.vocabSize, other.vocabSize); token++) {
    if (one.idToToken(token) !== other.idToToken(token)) return token;
  }
  return undefined;
}
