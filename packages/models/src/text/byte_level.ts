/**
 * The alphabet of byte-level BPE (GPT-2): each byte is one visible character. Printable Latin-1 bytes stand for
 * themselves, the other 68 are U+0100 and up in order.
 */
export function byteOfCharacter(character: string): number | undefined {
  const code = character.codePointAt(0) ?? -1;
  if (isPrintable(code)) return code;
  const rank = code - 0x100;
  // Ranks 0-32 are bytes 0x00-0x20, then come 0x7F-0xA0, then 0xAD.
  if (rank < 0 || rank > 67) return undefined;
  if (rank <= 32) return rank;
  return rank <= 66 ? 0x7f + rank - 33 : 0xad;
}

function isPrintable(code: number): boolean {
  return (0x21 <= code && code <= 0x7e) || (0xa1 <= code && code <= 0xac) || (0xae <= code && code <= 0xff);
}
