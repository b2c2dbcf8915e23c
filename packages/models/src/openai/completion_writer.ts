import type { GeneratedPiece } from '../generation/generate.ts';
import type { TokenLogprob } from '../generation/sampling_control.ts';
import type { PromptLogprob } from './prompt_logprobs.ts';
import type { TokenNames } from './token_names.ts';
import { TextOffsets } from './token_names.ts';
import type { CompletionLogprobs } from './types.ts';

/** What became known of one text. */
export interface CompletionPart {
  readonly choice: number;
  readonly text: string;
  readonly logprobs?: CompletionLogprobs;
  readonly finish?: 'stop' | 'length';
}

/** Pieces of a text, and the prompt before it where it is repeated, as parts of a completion. */
export class CompletionWriter {
  readonly #choice: number;
  /** Where log-probabilities were asked for. */
  readonly #names: TokenNames | undefined;
  readonly #offsets = new TextOffsets();

  constructor(choice: number, names: TokenNames | undefined) {
    this.#choice = choice;
    this.#names = names;
  }

  /** The prompt, whose first token nothing predicts. */
  async echo(text: string, tokens: readonly number[], logprobs: readonly PromptLogprob[]): Promise<CompletionPart> {
    if (this.#names === undefined) return { choice: this.#choice, text };
    const all = emptyLogprobs();
    for (const [at, token] of tokens.entries()) {
      const found = at === 0 ? undefined : logprobs[at - 1];
      await this.#add(all, token, found?.logprob ?? null, found?.tops);
    }
    return { choice: this.#choice, text, logprobs: all };
  }

  async push({ text, token, logprob, topLogprobs = [] }: GeneratedPiece): Promise<CompletionPart> {
    // The text that the end settled has no token of its own.
    if (this.#names === undefined || logprob === undefined) return { choice: this.#choice, text };
    const one = emptyLogprobs();
    await this.#add(one, token, logprob, topLogprobs);
    return { choice: this.#choice, text, logprobs: one };
  }

  finish(reason: 'stop' | 'length'): CompletionPart {
    return { choice: this.#choice, text: '', finish: reason };
  }

  async #add(
    all: CompletionLogprobs,
    token: number,
    logprob: number | null,
    tops: readonly TokenLogprob[] | undefined,
  ): Promise<void> {
    const names = this.#names;
    if (names === undefined) return;
    const name = await names.get(token);
    all.tokens.push(name.exact);
    all.token_logprobs.push(logprob);
    all.top_logprobs.push(tops === undefined ? null : await names.tops(tops));
    all.text_offset.push(this.#offsets.next(name, !names.isSpecial(token)));
  }
}

export function emptyLogprobs(): CompletionLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

/** Adds the tokens of a part to those before it. */
export function appendLogprobs(all: CompletionLogprobs, part: CompletionLogprobs): void {
  all.tokens.push(...part.tokens);
  all.token_logprobs.push(...part.token_logprobs);
  all.top_logprobs.push(...part.top_logprobs);
  all.text_offset.push(...part.text_offset);
}
