import { UnsupportedModelError } from '@mambalab/kernels';
import { byteOfCharacter } from './byte_level.ts';
import { childConfigs, field, typeOf } from './tokenizer_json.ts';

/**
 * One step from tokens to text, fed piece by piece. What `push` returns can no longer change, whatever follows;
 * all that was returned by `push` and then by `flush`, joined, is what the step makes of all pieces at once.
 */
export interface DecodeStage {
  push(piece: string): readonly string[];
  flush(): readonly string[];
}

const REPLACEMENT_CHARACTER = '\uFFFD';

/**
 * The steps of a `decoder` of tokenizer.json, as fresh state for one text.
 * They follow the Rust library `tokenizers`, which defines the format; the JavaScript one decodes only whole lists, and
 * differs for invalid byte runs and byte order marks.
 *
 * @throws UnsupportedModelError for a decoder that no causal language model uses.
 */
export function createDecodeStages(config: unknown): DecodeStage[] {
  if (config === undefined || config === null) return [joinWithSpaces()];
  const stages: DecodeStage[] = [];
  // After Fuse and ByteLevel all pieces are parts of one token: steps that look at a token's ends must know.
  let fused = false;
  const add = (item: unknown): void => {
    const type = typeOf(item);
    if (type === 'Sequence') childConfigs(item, 'decoders').forEach(add);
    else if (type === 'Fuse') fused = true;
    else stages.push(createStage(type, item, fused));
    if (type === 'ByteLevel') fused = true;
  };
  add(config);
  return stages;
}

function createStage(type: string | undefined, config: unknown, fused: boolean): DecodeStage {
  switch (type) {
    case 'ByteLevel':
      return byteLevel();
    case 'Replace':
      return replace(config, fused);
    case 'Strip':
      return fused ? stripWhole(config) : eachPiece((piece) => stripPiece(piece, config));
    case 'ByteFallback':
      if (!fused) return byteFallback();
      break;
    case 'Metaspace':
      if (!fused) return metaspace(config);
      break;
  }
  throw new UnsupportedModelError(
    `tokenizer.json has the decoder ${String(type)}${fused ? ' after a decoder that joins all tokens' : ''}.`,
    'Supported are Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip and Metaspace.',
  );
}

function eachPiece(convert: (piece: string) => string): DecodeStage {
  return { push: (piece) => [convert(piece)], flush: () => [] };
}

function joinWithSpaces(): DecodeStage {
  let first = true;
  return eachPiece((piece) => {
    const text = first ? piece : ` ${piece}`;
    first = false;
    return text;
  });
}

/** Tokens spell bytes; the bytes of all of them together are UTF-8. */
function byteLevel(): DecodeStage {
  // In streaming mode the decoder keeps an unfinished character, and gives the same text as for all bytes at once.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const encoder = new TextEncoder();
  return {
    push: (piece) => {
      const bytes = Array.from(piece, byteOfCharacter);
      // A token with a character outside the alphabet (an added token, usually) stands for itself.
      const isSpelled = (items: (number | undefined)[]): items is number[] => !items.includes(undefined);
      const chunk = isSpelled(bytes) ? Uint8Array.from(bytes) : encoder.encode(piece);
      return [decoder.decode(chunk, { stream: true })];
    },
    flush: () => [decoder.decode()],
  };
}

/**
 * A run of `<0xNN>` tokens is UTF-8 if the whole run is valid, otherwise one U+FFFD a token. So a run is settled only
 * by the token after it.
 */
function byteFallback(): DecodeStage {
  let run: number[] = [];
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const endRun = (): string[] => {
    if (run.length === 0) return [];
    const bytes = Uint8Array.from(run);
    run = [];
    try {
      return [decoder.decode(bytes)];
    } catch {
      return Array.from(bytes, () => REPLACEMENT_CHARACTER);
    }
  };
  return {
    push: (piece) => {
      const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)?.[1];
      if (hex === undefined) return [...endRun(), piece];
      run.push(Number.parseInt(hex, 16));
      return [];
    },
    flush: endRun,
  };
}

/** `▁` is a space, except in the first token, where it was put in front by the encoder. */
function metaspace(config: unknown): DecodeStage {
  const replacement = stringField(config, 'replacement', '\u2581');
  const scheme = field(config, 'prepend_scheme') ?? (field(config, 'add_prefix_space') === false ? 'never' : 'always');
  let first = true;
  return eachPiece((piece) => {
    const space = first && scheme !== 'never' ? '' : ' ';
    first = false;
    return piece.replaceAll(replacement, space);
  });
}

function replace(config: unknown, fused: boolean): DecodeStage {
  const pattern = field(config, 'pattern');
  const content = stringField(config, 'content', '');
  const literal = field(pattern, 'String');
  const regex = field(pattern, 'Regex');
  if (typeof literal !== 'string' && typeof regex !== 'string') {
    throw new UnsupportedModelError(
      'tokenizer.json has a Replace decoder without a pattern.',
      'Expected `pattern: { String }` or `pattern: { Regex }`.',
    );
  }
  const search = typeof literal === 'string' ? literal : new RegExp(String(regex), 'gu');
  const convert = (text: string): string => text.replaceAll(search, () => content);
  // In one joined token, only a pattern of one character cannot lie across two pieces.
  const isLocal = !fused || (typeof search === 'string' && [...search].length === 1);
  return isLocal ? eachPiece(convert) : onWholeText(convert);
}

function onWholeText(convert: (text: string) => string): DecodeStage {
  const pieces: string[] = [];
  return {
    push: (piece) => {
      pieces.push(piece);
      return [];
    },
    flush: () => [convert(pieces.join(''))],
  };
}

function stripPiece(piece: string, config: unknown): string {
  const { content, start, stop } = stripOptions(config);
  const characters = [...piece];
  let from = 0;
  while (from < start && characters[from] === content) from++;
  let to = characters.length;
  while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
  return characters.slice(from, to).join('');
}

/** Strip on one token of which the pieces are parts: the front is cut as it arrives, the end is held back. */
function stripWhole(config: unknown): DecodeStage {
  const { content, start, stop } = stripOptions(config);
  let toCut = start;
  let held = '';
  return {
    push: (piece) => {
      let text = piece;
      while (toCut > 0 && text.startsWith(content)) {
        text = text.slice(content.length);
        toCut--;
      }
      if (text !== '') toCut = 0;
      text = held + text;
      let end = text.length;
      for (let i = 0; i < stop && text.endsWith(content, end) && end > 0; i++) end -= content.length;
      held = text.slice(end);
      return [text.slice(0, end)];
    },
    flush: () => [],
  };
}

function stripOptions(config: unknown): { content: string; start: number; stop: number } {
  const content = stringField(config, 'content', ' ');
  const count = (name: string): number => {
    const value = field(config, name);
    return typeof value === 'number' && content !== '' ? value : 0;
  };
  return { content, start: count('start'), stop: count('stop') };
}

function stringField(config: unknown, name: string, otherwise: string): string {
  const value = field(config, name);
  return typeof value === 'string' ? value : otherwise;
}
