import { byteOfCharacter } from '../text/byte_level.ts';

/** How a vocabulary spells bytes: as letters (GPT-2), as `<0x0A>` with a low line for a space (SentencePiece), not at all. */
export type Spelling = 'byte_level' | 'byte_fallback' | 'raw';

/** The bytes that a token of a vocabulary stands for. */
export function bytesOf(word: string, spelling: Spelling): readonly number[] {
  const encode = (text: string): readonly number[] => [...new TextEncoder().encode(text)];
  if (spelling === 'byte_level') {
    const bytes = Array.from(word, byteOfCharacter);
    return bytes.includes(undefined) ? encode(word) : bytes.flatMap((byte) => byte ?? []);
  }
  if (spelling === 'raw') return encode(word);
  const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(word)?.[1];
  return hex === undefined ? encode(word.replaceAll('\u2581', ' ')) : [Number.parseInt(hex, 16)];
}

/** Inside which character a text in bytes is: how many bytes it lacks, and what the next of them may be. */
interface CharacterState {
  readonly missing: number;
  readonly low: number;
  readonly high: number;
}

const COMPLETE: CharacterState = { missing: 0, low: 0, high: 0 };

/** First bytes from `first` on, how many follow, and what the first of those may be; the Unicode Standard, table 3-7. */
const LEADS: readonly (readonly [first: number, missing: number, low: number, high: number])[] = [
  [0xf5, -1, 0, 0],
  [0xf4, 3, 0x80, 0x8f],
  [0xf1, 3, 0x80, 0xbf],
  [0xf0, 3, 0x90, 0xbf],
  [0xee, 2, 0x80, 0xbf],
  [0xed, 2, 0x80, 0x9f],
  [0xe1, 2, 0x80, 0xbf],
  [0xe0, 2, 0xa0, 0xbf],
  [0xc2, 1, 0x80, 0xbf],
  [0x80, -1, 0, 0],
];

function after(state: CharacterState, byte: number): CharacterState | undefined {
  if (state.missing > 0) {
    const fits = byte >= state.low && byte <= state.high;
    return fits ? { missing: state.missing - 1, low: 0x80, high: 0xbf } : undefined;
  }
  const [, missing = 0, low = 0, high = 0] = LEADS.find(([first]) => byte >= first) ?? [];
  return missing < 0 ? undefined : { missing, low, high };
}

function afterAll(state: CharacterState, bytes: readonly number[]): CharacterState | undefined {
  let next: CharacterState | undefined = state;
  for (const byte of bytes) next = next === undefined ? undefined : after(next, byte);
  return next;
}

/**
 * What the grammar engine lets pass and no text may hold: bytes that are not UTF-8, and in JSON control characters,
 * which its strings of limited length have.
 */
export class ByteRules {
  readonly #bytes: readonly (readonly number[])[];
  /** Tokens that begin or end inside a character. */
  readonly #partial: readonly number[];
  /** Bits of the tokens that JSON may hold. */
  readonly #json: Uint32Array;

  constructor(words: readonly string[], spelling: Spelling, vocabSize: number) {
    this.#bytes = words.map((word) => bytesOf(word, spelling));
    this.#partial = this.#bytes.flatMap((bytes, token) => (afterAll(COMPLETE, bytes)?.missing === 0 ? [] : [token]));
    this.#json = new Uint32Array(Math.ceil(vocabSize / 32)).fill(0xffffffff);
    for (const [token, bytes] of this.#bytes.entries()) {
      if (bytes.some((byte) => byte < 0x20 && byte !== 0x0a && byte !== 0x0d)) clearBit(this.#json, token);
    }
  }

  /** Rules for one text. */
  begin(isJson: boolean): TextRules {
    return new TextRules(this.#bytes, this.#partial, isJson ? this.#json : undefined);
  }
}

class TextRules {
  readonly #bytes: readonly (readonly number[])[];
  readonly #partial: readonly number[];
  readonly #allowed: Uint32Array | undefined;
  #state = COMPLETE;

  constructor(bytes: readonly (readonly number[])[], partial: readonly number[], allowed: Uint32Array | undefined) {
    this.#bytes = bytes;
    this.#partial = partial;
    this.#allowed = allowed;
  }

  /** Clears the bits of tokens that may not come next. */
  apply(mask: Uint32Array): void {
    const allowed = this.#allowed;
    if (allowed !== undefined)
      for (let word = 0; word < mask.length; word++) mask[word] = (mask[word] ?? 0) & (allowed[word] ?? 0);
    for (const token of this.#partial) {
      if (hasBit(mask, token) && afterAll(this.#state, this.#bytes[token] ?? []) === undefined) clearBit(mask, token);
    }
  }

  accept(token: number): void {
    this.#state = afterAll(this.#state, this.#bytes[token] ?? []) ?? COMPLETE;
  }
}

const hasBit = (mask: Uint32Array, at: number): boolean => (((mask[at >>> 5] ?? 0) >>> (at & 31)) & 1) === 1;

function clearBit(mask: Uint32Array, at: number): void {
  mask[at >>> 5] = (mask[at >>> 5] ?? 0) & ~(1 << (at & 31));
}
