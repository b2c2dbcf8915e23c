import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { Tokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { corpusLine, hashesOf, LINES_OF_A_HASH } from '../../support/corpus.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import { loadTokenizer } from './fixtures.ts';

/** All 10,000 in a long run (MAMBALAB_LONG=1), every tenth hundred in a usual one. */
const LINES = 10_000;
const STEP = process.env['MAMBALAB_LONG'] === '1' ? 1 : 10;

type Hashes = Readonly<Record<'ids' | 'plainIds' | 'decoded' | 'decodedWithoutSpecial', readonly string[]>>;
interface Expected extends Readonly<Record<'tiny' | 'stories260k' | 'gpt_neox', Hashes>> {
  readonly lines: readonly string[];
}

const expected = readFixture<Expected>('text/corpus/expected.json');
const hundreds = Array.from({ length: LINES / LINES_OF_A_HASH / STEP }, (_, index) => index * STEP);
const lines = hundreds.flatMap((hundred) =>
  Array.from({ length: LINES_OF_A_HASH }, (_, index) => corpusLine(hundred * LINES_OF_A_HASH + index)),
);
const chosen = (hashes: readonly string[]): (string | undefined)[] => hundreds.map((hundred) => hashes[hundred]);

/** The tokenizer of GPT-NeoX, whose merges are its vocabulary. */
function loadNeoX(): Tokenizer {
  const merges = gunzipSync(readFileSync(fixturePath('text/gpt_neox/merges.txt.gz')))
    .toString('utf8')
    .split('\n');
  type Json = { readonly model: { readonly vocab: Readonly<Record<string, number>> } };
  const rest = readFixture<Json>('text/gpt_neox/rest.json');
  const first = Math.max(...Object.values(rest.model.vocab)) + 1;
  const merged = merges.map((merge, rank) => [merge.replace(' ', ''), first + rank] as const);
  const vocab = { ...rest.model.vocab, ...Object.fromEntries(merged) };
  return createTokenizer({ ...rest, model: { ...rest.model, vocab, merges } });
}

/** The text piece by piece; what is not whole is never given. */
function inPieces(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean): string {
  const stream = tokenizer.detokenizer({ skipSpecialTokens });
  let text = '';
  for (const id of ids) {
    const piece = stream.push(id);
    if (/\p{Surrogate}/u.test(piece)) throw new Error(`a piece is half a character: ${JSON.stringify(piece)}`);
    text += piece;
  }
  return text + stream.flush();
}

it('is the corpus that the fixtures are of', () => {
  expect(hashesOf(lines)).toEqual(chosen(expected.lines));
});

describe.each(['tiny', 'stories260k', 'gpt_neox'] as const)('the %s tokenizer, over the corpus', (name) => {
  const tokenizer = name === 'gpt_neox' ? loadNeoX() : loadTokenizer(name);
  const ids = lines.map((line) => tokenizer.encode(line));

  it('gives the ids of AutoTokenizer', () => {
    const plain = lines.map((line) => tokenizer.encode(line, { addSpecialTokens: false }));
    expect(hashesOf(ids.map((each) => each.join()))).toEqual(chosen(expected[name].ids));
    expect(hashesOf(plain.map((each) => each.join()))).toEqual(chosen(expected[name].plainIds));
  });

  it('gives its texts back, whole and piece by piece', () => {
    const decoded = ids.map((each) => tokenizer.decode(each));
    const short = ids.map((each) => tokenizer.decode(each, { skipSpecialTokens: true }));
    expect(hashesOf(decoded)).toEqual(chosen(expected[name].decoded));
    expect(hashesOf(short)).toEqual(chosen(expected[name].decodedWithoutSpecial));
    expect(ids.map((each) => inPieces(tokenizer, each, false))).toEqual(decoded);
    expect(ids.map((each) => inPieces(tokenizer, each, true))).toEqual(short);
  });

  it('takes time in proportion to the tokens for the text of all lines together', () => {
    const all = ids.flat();
    const time = (count: number): number => {
      const began = performance.now();
      for (let at = 0; at + count <= all.length; at += count) inPieces(tokenizer, all.slice(at, at + count), false);
      return performance.now() - began;
    };
    time(100);
    const [inShort, inLong] = [time(100), time(all.length)];
    // As many tokens in one text as in many; quadratic work would take a hundred times as long.
    expect(inLong).toBeLessThan(inShort * 5 + 200);
  });
});
