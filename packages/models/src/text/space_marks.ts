/** Stands for a space in the pieces of SentencePiece. */
const MARK = '\u2581';

/** What SentencePiece does with a text before it encodes it. */
export interface Normalization {
  /** Whether a text gets a space in front. */
  readonly prefix: boolean;
  /** Whether spaces at both ends are dropped, and several within become one. */
  readonly removeExtraSpaces?: boolean;
  /** A compiled map of characters, in base64; applied first. */
  readonly characterMap?: string | undefined;
}

/** The parts of a tokenizer.json that normalise a text and turn spaces into marks and back, as SentencePiece does. */
export function spaceMarks({ prefix, removeExtraSpaces = false, characterMap }: Normalization): {
  readonly normalizer: object;
  readonly decoder: object;
} {
  const replace = (pattern: object, content: string): object => ({ type: 'Replace', pattern, content });
  const normalizers = [
    ...(characterMap === undefined ? [] : [{ type: 'Precompiled', precompiled_charsmap: characterMap }]),
    ...(removeExtraSpaces
      ? [replace({ Regex: String.raw`\A +|[ ${MARK}]+\z` }, ''), replace({ Regex: ' {2,}' }, ' ')]
      : []),
    // Of a text that was nothing but spaces nothing is left, and nothing is put in front of that.
    ...(prefix && removeExtraSpaces ? [replace({ Regex: String.raw`\A(?=[\s\S])` }, MARK)] : []),
    ...(prefix && !removeExtraSpaces ? [{ type: 'Prepend', prepend: MARK }] : []),
    replace({ String: ' ' }, MARK),
  ];
  const [first = {}, ...others] = normalizers;
  return {
    normalizer: others.length === 0 ? first : { type: 'Sequence', normalizers },
    decoder: {
      type: 'Sequence',
      decoders: [
        replace({ String: MARK }, ' '),
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
  };
}
