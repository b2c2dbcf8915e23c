import { createHash } from 'node:crypto';
import { readFixture } from './fixtures.ts';
import { Random } from './numbers.ts';

// Lines of many scripts, made of a few parts. tests/fixtures/tools/make_corpus.py makes the same ones, in which Hugging
// Face's tokenizers are asked what they make of them.

type Parts = Readonly<
  Record<'sentences' | 'snippets' | 'marks' | 'spaces' | 'controls' | 'specials', readonly string[]>
>;

const PARTS = readFixture<Parts>('text/corpus/parts.json');

/** Lines that one hash is of. */
export const LINES_OF_A_HASH = 100;

/** Ranges of characters that stand alone: the blocks of most scripts, and what lies beyond the first 65,536. */
const RANGES = [
  [0x20, 0x7e],
  [0xa1, 0x24f],
  [0x370, 0x52f],
  [0x590, 0x6ff],
  [0x900, 0xdff],
  [0xe01, 0xe5b],
  [0x10a0, 0x10ff],
  [0x1780, 0x17dd],
  [0x2010, 0x2bff],
  [0x3041, 0x30ff],
  [0x4e00, 0x9fff],
  [0xac00, 0xd7a3],
  [0x1f300, 0x1faff],
] as const;

/** A number below `count`. */
const below = (random: Random, count: number): number => random.integer(0, count - 1);

function pick(random: Random, items: readonly string[]): string {
  return items[below(random, items.length)] ?? '';
}

function piece(random: Random): string {
  const kind = below(random, 16);
  if (kind < 7) {
    // Some characters in a row of a sentence, words cut as well.
    const characters = [...pick(random, PARTS.sentences)];
    const start = below(random, characters.length);
    return characters.slice(start, start + 1 + below(random, 24)).join('');
  }
  if (kind < 9) return pick(random, PARTS.sentences);
  if (kind < 10) return pick(random, PARTS.snippets);
  if (kind < 12) return pick(random, PARTS.marks);
  if (kind < 13) return Array.from({ length: 1 + below(random, 9) }, () => String(below(random, 10))).join('');
  if (kind < 14) {
    const range = RANGES[below(random, RANGES.length)] ?? RANGES[0];
    return Array.from({ length: 1 + below(random, 4) }, () =>
      String.fromCodePoint(range[0] + below(random, range[1] - range[0] + 1)),
    ).join('');
  }
  if (kind < 15) return pick(random, PARTS.spaces);
  return pick(random, below(random, 2) === 0 ? PARTS.controls : PARTS.specials);
}

/** Line `index` of the corpus. */
export function corpusLine(index: number): string {
  const random = new Random(index);
  let line = '';
  for (let count = 1 + below(random, 8); count > 0; count--) line += piece(random) + pick(random, PARTS.spaces);
  return line;
}

/** What the fixtures hold for one text after another, in the order of the lines: hashes of {@link LINES_OF_A_HASH} each. */
export function hashesOf(texts: readonly string[]): string[] {
  return Array.from({ length: Math.ceil(texts.length / LINES_OF_A_HASH) }, (_, at) => {
    const hash = createHash('sha256');
    for (const text of texts.slice(at * LINES_OF_A_HASH, (at + 1) * LINES_OF_A_HASH)) hash.update(`${text}\u001e`);
    return hash.digest('hex').slice(0, 16);
  });
}
