import { describe, expect, it } from 'vitest';
import { cleanUp, cleanUpStage } from '../../../packages/models/src/text/clean_up.ts';
import { createDecodeStages } from '../../../packages/models/src/text/decoder.ts';
import { createDetokenizer } from '../../../packages/models/src/text/detokenizer.ts';
import { loadExpected, loadTokenizer, tokenizerNames } from './fixtures.ts';

/** A small generator with a seed (mulberry32), so that a failure can be repeated. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

describe.each(tokenizerNames)('streaming with the %s tokenizer', (name) => {
  const tokenizer = loadTokenizer(name);

  it('gives what decode gives, for random ids', () => {
    const random = randomOf(1);
    for (let round = 0; round < 300; round++) {
      // Half of the rounds stay among the first ids, which are bytes: that is where characters break.
      const below = round % 2 === 0 ? tokenizer.vocabSize + 2 : 300;
      const ids = Array.from({ length: random(24) }, () => random(below));
      for (const skipSpecialTokens of [false, true]) {
        const stream = tokenizer.detokenizer({ skipSpecialTokens });
        const pieces = ids.map((id) => stream.push(id));
        expect(pieces.join('') + stream.flush(), `ids ${ids.join()}`).toBe(
          tokenizer.decode(ids, { skipSpecialTokens }),
        );
      }
    }
  });

  it('never takes text back: every prefix is a prefix of the text of all tokens, whatever follows', () => {
    for (const { ids, decoded } of loadExpected(name).decodes) {
      const stream = tokenizer.detokenizer();
      let text = '';
      for (const id of ids) {
        text += stream.push(id);
        expect(decoded.startsWith(text)).toBe(true);
      }
    }
  });

  it('holds back an unfinished character', () => {
    const stream = tokenizer.detokenizer();
    const ids = tokenizer.encode('a😀b', { addSpecialTokens: false });
    const pieces = ids.map((id) => stream.push(id));
    expect(pieces.some((piece) => piece.includes('\uFFFD'))).toBe(false);
    expect(pieces.join('') + stream.flush()).toBe('a😀b');
  });

  it('takes no longer for a token because many came before it', () => {
    const ids = tokenizer.encode('The quick brown fox says: 日本語! ', { addSpecialTokens: false });
    const stream = tokenizer.detokenizer();
    let length = 0;
    // Quadratic work would take minutes here.
    for (let round = 0; round < 5000; round++) for (const id of ids) length += stream.push(id).length;
    expect(length).toBeGreaterThan(5000 * 20);
  });
});

describe('decode steps', () => {
  const decodeAll = (config: unknown, tokens: string[]): string => {
    const stream = createDetokenizer((id) => tokens[id], createDecodeStages(config));
    return tokens.map((_, id) => stream.push(id)).join('') + stream.flush();
  };

  // The expected texts are those of tokenizers 0.23 for the same decoder and tokens.
  it.each([
    [{ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' }, ['▁▁a', '▁b', 'c▁d'], 'a bc d'],
    [{ type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' }, ['▁a', '▁b'], ' a b'],
    [{ type: 'ByteFallback' }, ['x', '<0xE2>', '<0x82>', '<0xAC>', 'y'], 'x€y'],
    [{ type: 'ByteFallback' }, ['<0x41>', '<0xE2>', '<0x82>', 'y'], '\uFFFD\uFFFD\uFFFDy'],
    [{ type: 'ByteFallback' }, ['<0xEF>', '<0xBB>', '<0xBF>'], '\uFEFF'],
    [{ type: 'Strip', content: ' ', start: 1, stop: 1 }, ['  a ', ' b  '], ' ab '],
    [
      { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 1 }] },
      ['', ' ', ' a ', ' b ', ' '],
      ' a  b ',
    ],
    [
      { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Replace', pattern: { String: 'ab' }, content: '$&' }] },
      ['a', 'b', 'c'],
      '$&c',
    ],
    [{ type: 'ByteLevel' }, ['Ġa', 'Ã', '©', '日', 'b'], ' aé日b'],
    [null, ['a', 'b'], 'a b'],
  ])('%j decodes %j', (config, tokens, text) => {
    expect(decodeAll(config, tokens)).toBe(text);
  });
});

describe('cleaning up spaces', () => {
  it('deletes the spaces that word pieces put before punctuation', () => {
    expect(cleanUp("it is n't so , he 's here ! they 've ' gone ' ?")).toBe("it isn't so, he's here! they've'gone '?");
  });

  it('gives the same text in pieces', () => {
    const random = randomOf(2);
    const alphabet = [' ', ' ', '.', ',', '?', '!', "'", 'n', 't', 's', 'm', 'v', 'e', 'r', 'x'];
    for (let round = 0; round < 3000; round++) {
      const text = Array.from({ length: random(20) }, () => alphabet[random(alphabet.length)]).join('');
      const stage = cleanUpStage();
      const pieces = [...text].flatMap((piece) => stage.push(piece));
      expect([...pieces, ...stage.flush()].join(''), `of ${JSON.stringify(text)}`).toBe(cleanUp(text));
    }
  });
});
