import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { loadExpected, loadTokenizer, tokenizerNames } from './fixtures.ts';

describe.each(tokenizerNames)('the %s tokenizer', (name) => {
  const tokenizer = loadTokenizer(name);
  const expected = loadExpected(name);

  it.each(expected.texts)('encodes $text as AutoTokenizer does', ({ text, ids, plainIds }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(plainIds);
  });

  it.each([...expected.texts, ...expected.decodes])('decodes $ids as AutoTokenizer does', (sample) => {
    expect(tokenizer.decode(sample.ids)).toBe(sample.decoded);
    expect(tokenizer.decode(sample.ids, { skipSpecialTokens: true })).toBe(sample.decodedWithoutSpecial);
  });

  it('has as many tokens as AutoTokenizer, each found by its own name', () => {
    expect(tokenizer.vocabSize).toBe(expected.vocabSize);
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      expect(tokenizer.tokenToId(tokenizer.idToToken(id) ?? '')).toBe(id);
    }
    expect(tokenizer.idToToken(tokenizer.vocabSize)).toBeUndefined();
    expect(tokenizer.tokenToId('no such token')).toBeUndefined();
  });
});

describe('createTokenizer', () => {
  it('knows the special tokens by their roles', () => {
    expect(loadTokenizer('tiny').specialIds).toEqual({ bos: 0, eos: 0, pad: 1, unk: undefined, all: new Set([0, 1]) });
    expect(loadTokenizer('stories260k').specialIds).toEqual({
      bos: 1,
      eos: 2,
      pad: undefined,
      unk: 0,
      all: new Set([0, 1, 2]),
    });
  });

  it('puts the beginning-of-sequence token in front where the model was trained so', () => {
    expect(loadTokenizer('stories260k').encode('Once upon a time')).toEqual([1, 403, 407, 261, 378]);
  });

  it('encodes nothing to nothing and decodes it back', () => {
    expect(loadTokenizer('tiny').encode('')).toEqual([]);
    expect(loadTokenizer('tiny').decode([])).toBe('');
  });

  const vocab = { a: 0, b: 1 };
  const model = { type: 'BPE', vocab, merges: [] };

  it('takes further tokens from tokenizer_config.json', () => {
    const tokenizer = createTokenizer(
      { model, added_tokens: [] },
      { eos_token: { content: '<end>' }, added_tokens_decoder: { '2': { content: '<end>', special: true } } },
    );
    expect(tokenizer.specialIds.eos).toBe(2);
    expect(tokenizer.encode('ab<end>')).toEqual([0, 1, 2]);
    expect(tokenizer.decode([0, 2, 1], { skipSpecialTokens: true })).toBe('a b');
  });

  it('leaves out a named token that has no id', () => {
    const tokenizer = createTokenizer({ model, added_tokens: [] }, { pad_token: '<pad>' });
    expect(tokenizer.specialIds.pad).toBeUndefined();
    expect(tokenizer.vocabSize).toBe(2);
  });

  it.each([undefined, null, {}, { model: {} }, []])('refuses %j', (json) => {
    expect(() => createTokenizer(json)).toThrow(WeightFormatError);
  });

  it('refuses parts that it does not know', () => {
    expect(() => createTokenizer({ model, decoder: { type: 'CTC' } })).toThrow(UnsupportedModelError);
    expect(() => createTokenizer({ model, normalizer: { type: 'Nonsense' } })).toThrow(UnsupportedModelError);
    expect(() => createTokenizer({ model: { type: 'Nonsense', vocab } })).toThrow(UnsupportedModelError);
  });
});
