/** Stands for a space in the pieces of SentencePiece. */
const MARK = '\u2581';

/**
 * The parts of a tokenizer.json that turn spaces into marks and back, as SentencePiece does.
 *
 * @param prefix whether a text gets a space in front
 */
export function spaceMarks(prefix: boolean): { readonly normalizer: object; readonly decoder: object } {
  const toMark = { type: 'Replace', pattern: { String: ' ' }, content: MARK };
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: MARK }, toMark] } : toMark,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: MARK }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
  };
}
