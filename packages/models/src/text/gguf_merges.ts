/** A token that merges may make. */
interface Piece {
  readonly id: number;
  readonly text: string;
}

/**
 * The merges that SentencePiece's BPE stands for: any two tokens next to each other become one if their texts together are
 * a token, that with the highest score first. Those of one score are ordered as Hugging Face's conversion orders them, by
 * the lengths of their first and second parts, the longer ones first, and then by the ids of the token and its parts.
 */
export function spmMerges(pieces: readonly Piece[], scores: readonly number[]): [string, string][] {
  const ids = new Map(pieces.map(({ text, id }) => [text, id]));
  const found: { left: string; right: string; score: number; leftLength: number; rightLength: number }[] = [];
  for (const { text, id } of pieces) {
    const characters = [...text];
    const score = scores[id] ?? 0;
    const pairs: (typeof found)[number][] = [];
    let left = '';
    for (const [at, character] of characters.slice(0, -1).entries()) {
      left += character;
      const right = text.slice(left.length);
      if (!ids.has(left) || !ids.has(right)) continue;
      pairs.push({ left, right, score, leftLength: at + 1, rightLength: characters.length - at - 1 });
    }
    const idOf = (part: string): number => ids.get(part) ?? 0;
    found.push(...pairs.sort((a, b) => idOf(a.left) - idOf(b.left) || idOf(a.right) - idOf(b.right)));
  }
  found.sort((a, b) => b.score - a.score || b.leftLength - a.leftLength || b.rightLength - a.rightLength);
  return found.map(({ left, right }) => [left, right]);
}
