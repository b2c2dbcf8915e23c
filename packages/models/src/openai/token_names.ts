import type { Spelling } from '../generation/token_bytes.ts';
import { bytesOf } from '../generation/token_bytes.ts';
import type { TokenLogprob } from '../generation/sampling_control.ts';
import type { ModelTokenizer } from '../language_model.ts';
import type { ChatTokenLogprob, TopLogprob } from './types.ts';

/** A token as a text of its own. */
export interface TokenName {
  /** Its text; bytes that are no whole characters show as replacement characters. */
  readonly text: string;
  readonly bytes: readonly number[];
  /** Its text, or where that is no whole characters `bytes:\xe2\x80`: no two tokens of bytes look the same. */
  readonly exact: string;
}

/** Texts of tokens, each asked for once. */
export class TokenNames {
  readonly #tokenizer: ModelTokenizer;
  readonly #names = new Map<number, Promise<TokenName>>();
  #spelling: Promise<Spelling> | undefined;

  constructor(tokenizer: ModelTokenizer) {
    this.#tokenizer = tokenizer;
  }

  get(token: number): Promise<TokenName> {
    const known = this.#names.get(token);
    if (known !== undefined) return known;
    const name = this.#make(token);
    this.#names.set(token, name);
    return name;
  }

  /** Whether a token is left out of texts. */
  isSpecial(token: number): boolean {
    return this.#tokenizer.specialIds.all.has(token);
  }

  /** A token with its probability, in the form of chats. */
  async chatLogprob(token: number, logprob: number, tops: readonly TokenLogprob[]): Promise<ChatTokenLogprob> {
    const named = async (id: number, value: number): Promise<TopLogprob> => {
      const { text, bytes } = await this.get(id);
      return { token: text, logprob: value, bytes: [...bytes] };
    };
    return {
      ...(await named(token, logprob)),
      top_logprobs: await Promise.all(tops.map((top) => named(top.token, top.logprob))),
    };
  }

  /** The most probable tokens by their texts, as completions have them. */
  async tops(tops: readonly TokenLogprob[]): Promise<Record<string, number>> {
    const entries = await Promise.all(
      tops.map(async ({ token, logprob }) => [(await this.get(token)).exact, logprob] as const),
    );
    // Of tokens with the same text the more probable one, which comes first.
    return Object.fromEntries(entries.toReversed());
  }

  async #make(token: number): Promise<TokenName> {
    this.#spelling ??= this.#findSpelling();
    const word = (await this.#tokenizer.idToToken(token)) ?? '';
    const bytes = bytesOf(word, await this.#spelling);
    const array = Uint8Array.from(bytes);
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(array);
    const isWhole = !text.includes('\ufffd') || word.includes('\ufffd');
    const exact = isWhole ? text : `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
    return { text, bytes, exact };
  }

  async #findSpelling(): Promise<Spelling> {
    const has = async (word: string): Promise<boolean> => (await this.#tokenizer.tokenToId(word)) !== undefined;
    // SentencePiece spells a space as a low line, byte-level vocabularies as this letter.
    if ((await has('<0x0A>')) || (await has('\u2581'))) return 'byte_fallback';
    return (await has('\u0120')) ? 'byte_level' : 'raw';
  }
}

/** Where tokens begin in a text, in characters (UTF-16 units), as they follow one another. */
export class TextOffsets {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #length = 0;

  /** The place of a token, which is of no length where it is not part of the text. */
  next({ bytes }: TokenName, isPart: boolean): number {
    const place = this.#length;
    if (isPart) this.#length += this.#decoder.decode(Uint8Array.from(bytes), { stream: true }).length;
    return place;
  }
}
