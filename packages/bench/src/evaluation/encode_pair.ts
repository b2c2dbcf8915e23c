import type { Tokenizer } from '@mambalab/models';
import type { ScoreRequest } from './asked_model.ts';

/** What Python's `str.rstrip` removes. */
// oxlint-disable-next-line no-control-regex -- control characters are what Python removes
const TRAILING_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/;

/** Encodes texts for scoring as the lm-evaluation-harness does with models of Hugging Face. */
export class PairEncoder {
  readonly #tokenizer: Tokenizer;
  /** The token before a text without context: that begins, or else ends, sequences. */
  readonly #prefix: number | undefined;
  readonly #prefixText: string;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    const { bos, eos } = tokenizer.specialIds;
    this.#prefix = bos ?? eos;
    this.#prefixText = this.#prefix === undefined ? '' : tokenizer.decode([this.#prefix]);
  }

  /**
   * Both are encoded as one text, and cut where the tokens of the context alone end. Spaces at the end of the context
   * count to the continuation.
   */
  encode(context: string, continuation: string): ScoreRequest {
    if (context === '') return this.#withoutContext(this.#tokenizer.encode(continuation, { addSpecialTokens: false }));
    const spaces = TRAILING_SPACE.exec(context)?.[0] ?? '';
    const kept = context.slice(0, context.length - spaces.length);
    const first = this.#encodeText(kept);
    const whole = this.#encodeText(kept + spaces + continuation);
    return { context: first, continuation: whole.slice(first.length) };
  }

  /**
   * A whole text in windows of at most `length` tokens that are processed together: each token is predicted once, with
   * as many tokens before it as fit.
   */
  windows(text: string, length: number): ScoreRequest[] {
    const tokens = this.#encodeText(text);
    // Without a token to begin with, the first of the text is not predicted.
    const prefix = this.#prefix ?? tokens.shift();
    if (prefix === undefined) return [];
    const first = Math.min(length, tokens.length);
    const windows: ScoreRequest[] = [{ context: [prefix], continuation: tokens.slice(0, first) }];
    for (let predicted = first; predicted < tokens.length;) {
      const end = Math.min(tokens.length, predicted + length);
      // Tokens that were predicted before are context again where the last window is not full.
      const start = Math.max(0, end - length - 1);
      windows.push({ context: tokens.slice(start, predicted), continuation: tokens.slice(predicted, end) });
      predicted = end;
    }
    return windows.filter(({ continuation }) => continuation.length > 0);
  }

  #withoutContext(tokens: readonly number[]): ScoreRequest {
    const [first] = tokens;
    const prefix = this.#prefix;
    return prefix === undefined || prefix === first
      ? { context: tokens.slice(0, 1), continuation: tokens.slice(1) }
      : { context: [prefix], continuation: tokens };
  }

  #encodeText(text: string): number[] {
    // A text that writes the token out does not get it twice.
    const hasPrefix = this.#prefixText !== '' && text.startsWith(this.#prefixText);
    return this.#tokenizer.encode(text, hasPrefix ? { addSpecialTokens: false } : {});
  }
}

/** Removes tokens of the context, from the left, until no more than `length` tokens are processed. */
export function truncateLeft({ context, continuation }: ScoreRequest, length: number): ScoreRequest {
  const excess = context.length + continuation.length - 1 - length;
  return excess <= 0 ? { context, continuation } : { context: context.slice(excess), continuation };
}
