import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { spmMerges } from '../../../packages/models/src/text/gguf_merges.ts';
import type { GgufVocabulary } from '../../../packages/models/src/text/gguf_vocabulary.ts';
import { rebuildTokenizer } from '../../../packages/models/src/text/gguf_vocabulary.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { Tokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { readFixture } from '../../support/fixtures.ts';
import { loadExpected, readTokenizerFile } from './fixtures.ts';

interface TokenizerJson {
  readonly model: { readonly vocab: Readonly<Record<string, number>>; readonly merges: readonly (string | string[])[] };
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
}

const jsonOf = (name: string): TokenizerJson => JSON.parse(readTokenizerFile(name, 'tokenizer.json')) as TokenizerJson;

/** A vocabulary as a conversion writes it from a tokenizer.json. */
function vocabularyOf(name: string, changes: Partial<GgufVocabulary>): GgufVocabulary {
  const { model, added_tokens: added } = jsonOf(name);
  const specials = new Map(added.map(({ id, special }) => [id, special]));
  const texts = new Map([
    ...Object.entries(model.vocab).map(([text, id]) => [id, text] as const),
    ...added.map(({ id, content }) => [id, content] as const),
  ]);
  const last = Math.max(...texts.keys());
  // Rows of the embedding that no token has.
  const tokens = Array.from({ length: last + 3 }, (_, id) => texts.get(id) ?? `[PAD${id}]`);
  const typeOf = (id: number): number => {
    const special = specials.get(id);
    return texts.has(id) ? (special === undefined ? 1 : special ? 3 : 4) : 5;
  };
  return {
    model: 'gpt2',
    pre: 'gpt-2',
    tokens: () => tokens,
    types: () => tokens.map((_, id) => typeOf(id)),
    scores: () => undefined,
    merges: () => model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
    roles: { bos: undefined, eos: 0, pad: undefined, unk: undefined },
    addBos: undefined,
    addEos: undefined,
    addSpacePrefix: undefined,
    hasCharacterMap: false,
    chatTemplates: new Map(),
    json: undefined,
    ...changes,
  };
}

/** stories260K as SentencePiece has it: unknown, special tokens, bytes, pieces by rank. */
function storiesVocabulary(changes: Partial<GgufVocabulary> = {}): GgufVocabulary {
  const vocab = Object.entries(jsonOf('stories260k').model.vocab).sort(([, a], [, b]) => a - b);
  return vocabularyOf('stories260k', {
    model: 'llama',
    tokens: () => vocab.map(([text]) => text),
    types: () => vocab.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1)),
    scores: () => vocab.map((_, id) => (id < 259 ? 0 : 259 - id)),
    merges: () => undefined,
    roles: { bos: 1, eos: 2, pad: undefined, unk: 0 },
    ...changes,
  });
}

function rebuilt(vocabulary: GgufVocabulary): Tokenizer {
  const { tokenizerJson, tokenizerConfig, problem } = rebuildTokenizer(vocabulary);
  expect(problem).toBeUndefined();
  return createTokenizer(tokenizerJson, tokenizerConfig);
}

describe.each([
  ['tiny', 'gpt-2'],
  ['gpt_neox_small', 'olmo'],
] as const)('the %s tokenizer, rebuilt', (name, pre) => {
  const tokenizer = rebuilt(vocabularyOf(name, { pre }));
  const expected = loadExpected(name);

  it.each(expected.texts)('encodes $text as AutoTokenizer does', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  it.each([...expected.texts, ...expected.decodes])('decodes $ids as AutoTokenizer does', (sample) => {
    expect(tokenizer.decode(sample.ids)).toBe(sample.decoded);
    expect(tokenizer.decode(sample.ids, { skipSpecialTokens: true })).toBe(sample.decodedWithoutSpecial);
  });

  it('has as many tokens as AutoTokenizer', () => {
    expect(tokenizer.vocabSize).toBe(expected.vocabSize);
  });
});

describe('the stories260k tokenizer, rebuilt from scores', () => {
  // Without the class of its configuration, a space goes in front of each part of a text, as llama.cpp has it.
  const original = createTokenizer(JSON.parse(readTokenizerFile('stories260k', 'tokenizer.json')));
  const expected = loadExpected('stories260k');

  it('has the merges of the original, by the ranks of what they make', () => {
    const tokens = storiesVocabulary().tokens() ?? [];
    const pieces = tokens.map((text, id) => ({ text, id })).slice(259);
    const made = spmMerges(pieces, storiesVocabulary().scores() ?? []).map(([left, right]) => `${left} ${right}`);
    const merges = jsonOf('stories260k').model.merges.map((merge) =>
      typeof merge === 'string' ? merge : merge.join(' '),
    );
    const joined = (all: readonly string[]): string[] => all.map((merge) => merge.replace(' ', ''));
    expect(joined(made)).toEqual(joined(merges));
    expect(new Set(made)).toEqual(new Set(merges));
  });

  // AutoTokenizer leaves out a space in front of one that is there.
  it.each(expected.texts.filter(({ text }) => !/^[ \u2581]|<unk>|<\/?s>/.test(text)))(
    'encodes $text as AutoTokenizer does',
    ({ text, ids, plainIds }) => {
      const tokenizer = rebuilt(storiesVocabulary());
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(plainIds);
    },
  );

  it('encodes all texts as the original tokenizer.json has it, and decodes all ids', () => {
    const tokenizer = rebuilt(storiesVocabulary());
    for (const { text, ids } of expected.texts) {
      expect(tokenizer.encode(text)).toEqual(original.encode(text));
      expect(tokenizer.decode(ids)).toBe(original.decode(ids));
    }
    for (const { ids, decoded } of expected.decodes) expect(tokenizer.decode(ids)).toBe(decoded);
    expect(tokenizer.specialIds).toEqual({ bos: 1, eos: 2, pad: undefined, unk: 0, all: new Set([0, 1, 2]) });
  });

  it('heeds what is put around a text', () => {
    const encode = (changes: Partial<GgufVocabulary>): number[] => rebuilt(storiesVocabulary(changes)).encode('Once');
    expect(encode({})).toEqual([1, 403]);
    expect(encode({ addBos: false })).toEqual([403]);
    expect(encode({ addBos: false, addEos: true })).toEqual([403, 2]);
    const withoutSpace = rebuilt(storiesVocabulary({ addSpacePrefix: false }));
    expect(withoutSpace.decode(withoutSpace.encode(' Once'), { skipSpecialTokens: true })).toBe(' Once');
    expect(withoutSpace.encode(' Once', { addSpecialTokens: false })).toEqual([403]);
  });
});

describe('words', () => {
  const { texts, lengths } = readFixture<{
    readonly texts: readonly string[];
    readonly lengths: Readonly<Record<string, readonly (readonly number[])[]>>;
  }>('gguf/words.json');

  it.each(Object.keys(lengths))('%s cuts texts where the Rust library cuts them', (pre) => {
    for (const [index, text] of texts.entries()) {
      // Every word is a token, so that words show as ids. Byte-level tokens are spelled by a tokenizer of bytes alone.
      const words: string[] = [];
      let at = 0;
      for (const length of lengths[pre]?.[index] ?? []) {
        words.push([...text].slice(at, at + length).join(''));
        at += length;
      }
      expect(words.join('')).toBe(text);
      const spelled = words.map((word) => spell(word));
      const vocab = [...new Set([...ALPHABET, ...spelled])];
      const base = vocabularyOf('tiny', {
        pre,
        tokens: () => vocab,
        types: () => undefined,
        merges: () => [],
        addBos: false,
      });
      const { tokenizerJson } = rebuildTokenizer(base);
      const model = { ...Object(Object(tokenizerJson).model), ignore_merges: true };
      const tokenizer = createTokenizer({ ...Object(tokenizerJson), normalizer: null, model });
      expect(tokenizer.encode(text).map((id) => tokenizer.idToToken(id))).toEqual(spelled);
    }
  });
});

/** The characters that byte-level BPE has for bytes. */
const ALPHABET: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const isPlain = (value: number): boolean =>
    (value >= 33 && value <= 126) || (value >= 161 && value <= 172) || (value >= 174 && value <= 255);
  const before = Array.from({ length: byte }, (__, other) => other).filter((other) => !isPlain(other)).length;
  return String.fromCodePoint(isPlain(byte) ? byte : 256 + before);
});

const spell = (word: string): string =>
  Array.from(new TextEncoder().encode(word), (byte) => ALPHABET[byte] ?? '').join('');

describe('rebuildTokenizer', () => {
  it('gives chat templates and the names of tokens also where it cannot rebuild the vocabulary', () => {
    const chatTemplates = new Map([
      ['default', '{{ bos_token }}'],
      ['tool_use', 'tools'],
    ]);
    const { tokenizerJson, tokenizerConfig, problem } = rebuildTokenizer(
      storiesVocabulary({ chatTemplates, hasCharacterMap: true }),
    );
    expect(tokenizerJson).toBeUndefined();
    expect(problem).toBeInstanceOf(UnsupportedModelError);
    expect(tokenizerConfig).toMatchObject({
      bos_token: '<s>',
      eos_token: '</s>',
      chat_template: [
        { name: 'default', template: '{{ bos_token }}' },
        { name: 'tool_use', template: 'tools' },
      ],
    });
  });

  it('takes a whole tokenizer.json where the file has one', () => {
    const json = jsonOf('tiny');
    expect(rebuildTokenizer(vocabularyOf('tiny', { json, model: 'other' })).tokenizerJson).toBe(json);
  });

  it('has nothing to say of a file without a vocabulary', () => {
    const { tokenizerJson, problem } = rebuildTokenizer(vocabularyOf('tiny', { tokens: () => undefined }));
    expect([tokenizerJson, problem]).toEqual([undefined, undefined]);
  });

  const doubled = ['a', 'b', 'a'];
  it.each<[string, GgufVocabulary, RegExp]>([
    ['another model', vocabularyOf('tiny', { model: 'bert' }), /tokenizer of the model 'bert'/],
    ['rules that are not known', vocabularyOf('tiny', { pre: 'default' }), /by the rules 'default'.*gpt-2/],
    ['no merges', vocabularyOf('tiny', { merges: () => undefined }), /no 'tokenizer.ggml.merges'/],
    ['no scores', storiesVocabulary({ scores: () => undefined }), /0 scores/],
    [
      'scores that are all alike',
      storiesVocabulary({ scores: () => Array.from({ length: 512 }, () => -1000) }),
      /no ranks/,
    ],
    ['logarithms', storiesVocabulary({ scores: () => Array.from({ length: 512 }, (_, id) => -id / 7) }), /no ranks/],
    [
      'types for other tokens',
      vocabularyOf('tiny', { types: () => [1, 1] }),
      /'tokenizer.ggml.token_type' has 2 entries/,
    ],
    [
      'a token twice',
      vocabularyOf('tiny', { tokens: () => doubled, types: () => undefined }),
      /Tokens 0 and 2 .* both "a"/,
    ],
  ])('says why it cannot rebuild a vocabulary with %s', (_, vocabulary, message) => {
    const { tokenizerJson, problem } = rebuildTokenizer(vocabulary);
    expect(tokenizerJson).toBeUndefined();
    expect([UnsupportedModelError, WeightFormatError].some((type) => problem instanceof type)).toBe(true);
    expect(String(problem)).toMatch(message);
  });
});
