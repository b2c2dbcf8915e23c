import { describe, expect, it } from 'vitest';
import { StopTexts } from '../../../packages/models/src/generation/stop_texts.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { readFixture } from '../../support/fixtures.ts';
import { Random } from '../../support/numbers.ts';

/** What is shown of a text in pieces, and whether it was stopped. */
function show(stops: readonly string[], pieces: readonly string[]): { shown: string; found: boolean } {
  const texts = new StopTexts(stops);
  const shown: string[] = [];
  for (const piece of pieces) shown.push(texts.push(piece));
  shown.push(texts.flush());
  return { shown: shown.join(''), found: texts.found };
}

/** The same by reading a letter at a time: the first complete one counts, of several the longest. */
function expectedOf(stops: readonly string[], text: string): { shown: string; found: boolean } {
  for (let end = 0; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length);
    if (complete.length > 0) return { shown: text.slice(0, end - Math.max(...complete)), found: true };
  }
  return { shown: text, found: false };
}

/** All ways to cut a text in two or three pieces. */
function* splits(text: string): Generator<string[]> {
  for (let a = 0; a <= text.length; a++) {
    for (let b = a; b <= text.length; b++) yield [text.slice(0, a), text.slice(a, b), text.slice(b)];
  }
}

describe('stop texts', () => {
  it.each<[string, readonly string[]]>([
    ['one two three', ['two']],
    ['one two three', ['tow', 'thr', 'three']],
    ['aaab aaaab', ['aaaab']],
    ['abcabd', ['abd', 'cab']],
    ['xabcy', ['abc', 'b']],
    ['xabcy', ['bc', 'abc']],
    ['User: hi\n\nUser:', ['\n\nUser:', '###']],
    ['no stop her', ['here']],
    ['é😀ü', ['😀']],
  ])('of %j by %j are the same for every split', (text, stops) => {
    const expected = expectedOf(stops, text);
    for (const pieces of splits(text)) expect(show(stops, pieces)).toEqual(expected);
    expect(show(stops, [...text])).toEqual(expected);
  });

  it('of random texts, too', () => {
    const random = new Random(4);
    const letters = (count: number): string => Array.from({ length: count }, () => 'ab'[random.integer(0, 1)]).join('');
    for (let round = 0; round < 200; round++) {
      const text = letters(12);
      const stops = [letters(random.integer(2, 5)), letters(random.integer(2, 5))];
      const [, ...cuts] = [...text].map(() => random.integer(0, 2) === 0);
      const pieces = [text[0] ?? ''];
      for (const [at, cut] of cuts.entries()) {
        if (cut) pieces.push('');
        pieces[pieces.length - 1] += text[at + 1] ?? '';
      }
      expect(show(stops, pieces)).toEqual(expectedOf(stops, text));
    }
  });

  it('never show a part of a stop before it is known to be none', () => {
    const texts = new StopTexts(['<end>']);
    expect(texts.push('a<en')).toBe('a');
    expect(texts.push('d')).toBe('');
    expect(texts.push('x<')).toBe('<endx');
    expect(texts.push('end>tail')).toBe('');
    expect([texts.found, texts.push('more'), texts.flush()]).toEqual([true, '', '']);
  });

  it('are found over every split of their bytes into tokens', () => {
    const tokenizer = createTokenizer(readFixture('models/stories260k/tokenizer.json'));
    const stop = 'é\n😀!';
    const bytes = [...new TextEncoder().encode(stop)];
    // Each byte is a token of its own, and so is each character that the vocabulary has; all mixtures of them.
    const hex = (byte: number): number =>
      tokenizer.tokenToId(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`) ?? -1;
    const tail = tokenizer.tokenToId('!') ?? -1;
    for (const last of [[hex(33)], [tail]]) {
      const tokens = [
        ...tokenizer.encode('Once upon', { addSpecialTokens: false }),
        ...bytes.slice(0, -1).map(hex),
        ...last,
      ];
      const detokenizer = tokenizer.detokenizer();
      const texts = new StopTexts([stop]);
      const shown = tokens.map((token) => texts.push(detokenizer.push(token)));
      shown.push(texts.push(detokenizer.flush()), texts.flush());
      expect([shown.join(''), texts.found]).toEqual(['Once upon', true]);
    }
  });
});
