import { WeightFormatError } from '@mambalab/kernels';
import { childConfigs, field, typeOf } from './tokenizer_json.ts';

/**
 * Rules of normalisation as SentencePiece compiles them: of all beginnings of the rest of a text that the map has, the
 * longest is replaced; a character that begins none stays.
 *
 * The bytes are the size of a trie, the trie (32-bit units), and the replacements, each ended by a zero. A unit holds the
 * byte that leads to it, the offset of its children, and whether one of these is a value, which is where a replacement
 * begins. Source: normalizer.cc of SentencePiece 0.2, and the double-array tries of Darts-clone that it uses.
 */
export class CharacterMap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;

  private constructor(units: Uint32Array, replacements: Uint8Array) {
    this.#units = units;
    this.#replacements = replacements;
  }

  /** @throws WeightFormatError if the bytes are no such map */
  static read(bytes: Uint8Array): CharacterMap {
    const size = bytes.byteLength < 4 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    if (size < 4 || size % 4 !== 0 || size > bytes.byteLength - 4) {
      throw new WeightFormatError(
        `A compiled map of characters of ${bytes.byteLength} bytes is damaged: its trie would have ${size}.`,
        'Download the tokenizer again.',
      );
    }
    return new CharacterMap(new Uint32Array(bytes.slice(4, 4 + size).buffer), bytes.slice(4 + size));
  }

  apply(text: string): string {
    const bytes = new TextEncoder().encode(text);
    const parts: Uint8Array[] = [];
    /** The first byte that stands in no part yet: what stays between replacements is one. */
    let kept = 0;
    for (let at = 0; at < bytes.byteLength;) {
      const { length, value } = this.#longest(bytes, at);
      if (length > 0) {
        const end = this.#replacements.indexOf(0, value);
        parts.push(bytes.subarray(kept, at), this.#replacements.subarray(value, end < 0 ? undefined : end));
        kept = at + length;
      }
      at += length > 0 ? length : characterBytes(bytes[at] ?? 0);
    }
    if (kept === 0) return text;
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    // Replacements are whole characters, but one after another costs less than each alone.
    return [...parts, bytes.subarray(kept)].map((part) => decoder.decode(part, { stream: true })).join('');
  }

  /** The longest beginning of the bytes from `start` on that the map has: its length, and where its replacement begins. */
  #longest(bytes: Uint8Array, start: number): { readonly length: number; readonly value: number } {
    let unit = this.#units[0] ?? 0;
    let node = childrenOf(unit);
    let found = { length: 0, value: 0 };
    for (let at = start; at < bytes.byteLength; at++) {
      const byte = bytes[at] ?? 0;
      node ^= byte;
      unit = this.#units[node] ?? 0;
      if ((unit & 0x800000ff) >>> 0 !== byte) break;
      node ^= childrenOf(unit);
      const hasValue = ((unit >>> 8) & 1) === 1;
      if (hasValue) found = { length: at + 1 - start, value: (this.#units[node] ?? 0) & 0x7fffffff };
    }
    return found;
  }
}

const childrenOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);

/** Bytes of a character of UTF-8 by its first one. */
function characterBytes(first: number): number {
  return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/** What is called to normalise a text. */
interface Normalizer {
  normalize(text: string): string;
  readonly normalizers?: readonly (Normalizer | null)[];
}

/**
 * Lets a normalizer of `@huggingface/tokenizers` apply compiled maps as they are: the library takes every one for NFKC
 * with a few rules of its own.
 *
 * @param config of the normalizer in tokenizer.json
 * @throws WeightFormatError if a map is damaged
 */
export function useCharacterMaps(normalizer: Normalizer | null, config: unknown): void {
  if (normalizer === null) return;
  for (const [index, child] of childConfigs(config, 'normalizers').entries()) {
    useCharacterMaps(normalizer.normalizers?.[index] ?? null, child);
  }
  const text = field(config, 'precompiled_charsmap');
  if (typeOf(config) !== 'Precompiled' || typeof text !== 'string' || text === '') return;
  const map = CharacterMap.read(fromBase64(text));
  normalizer.normalize = (given) => map.apply(given);
}

function fromBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new WeightFormatError(
      "`precompiled_charsmap` of tokenizer.json's normalizer is no base64.",
      'Download the tokenizer again.',
      { cause },
    );
  }
}

/** Bytes as tokenizer.json has them. */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
