import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { MambalabError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { CharacterMap } from '../../../packages/models/src/text/character_map.ts';
import { readSentencePiece } from '../../../packages/models/src/text/sentencepiece.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { Tokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { corpusLine, hashesOf, LINES_OF_A_HASH } from '../../support/corpus.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import { mutateBytes } from '../../support/fuzz/mutations.ts';
import { Random } from '../../support/numbers.ts';
import { memoryFolder, weightFile } from '../weights/fixtures.ts';

type Expected = Readonly<Record<string, Readonly<Record<'ids' | 'decoded', readonly string[]>>>>;

const readModel = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(fixturePath(`text/sentencepiece/${name}.model`)));

function load(bytes: Uint8Array, config?: unknown): Tokenizer {
  const { tokenizerJson, tokenizerConfig, problem } = readSentencePiece(bytes, 'tokenizer.model', config);
  if (problem !== undefined) throw problem;
  return createTokenizer(tokenizerJson, tokenizerConfig);
}

/** Hundreds of lines that are compared: all in a long run. */
const HUNDREDS = process.env['MAMBALAB_LONG'] === '1' ? 100 : 10;
/** What has no one answer: see tests/fixtures/tools/make_sentencepiece.py. */
const LEFT_OUT = ['<s>', '</s>', '<unk>', '<0x', '\n\n\n'];

const lines = Array.from({ length: HUNDREDS * LINES_OF_A_HASH }, (_, index) => corpusLine(index)).filter(
  (line) => !LEFT_OUT.some((text) => line.includes(text)),
);
const whole = Math.floor(lines.length / LINES_OF_A_HASH);

const expectations = readFixture<Expected>('text/sentencepiece/expected.json');

describe.each(Object.entries(expectations).filter(([name]) => !name.includes('_')))('a %s model', (name, expected) => {
  const bytes = readModel(name);
  const tokenizer = load(bytes);
  const ids = lines.map((line) => tokenizer.encode(line));

  it('gives the ids and the texts of SentencePiece', () => {
    const written = hashesOf(ids.map((each) => each.join()));
    expect(written.slice(0, whole)).toEqual(expected.ids.slice(0, whole));
    expect(hashesOf(ids.map((each) => tokenizer.decode(each))).slice(0, whole)).toEqual(
      expected.decoded.slice(0, whole),
    );
  });

  it('knows its special tokens, and puts the first in front where the configuration says so', () => {
    expect(tokenizer.specialIds).toMatchObject({ unk: 0, bos: 1, eos: 2, pad: undefined });
    expect(tokenizer.encode('a<|tool|>b')).toContain(3);
    const [first] = load(bytes, { add_bos_token: true }).encode('a');
    expect(first).toBe(1);
  });

  it('is refused where it is damaged, or read', () => {
    let refused = 0;
    for (let index = 0; index < 500; index++) {
      try {
        load(mutateBytes(bytes, new Random(index), index % 2 === 0 ? 400 : Infinity)).encode('Once upon a time');
      } catch (error) {
        if (!(error instanceof MambalabError)) throw new Error(`change ${index}`, { cause: error });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });

  it('is found in a folder without tokenizer.json', async () => {
    const folder = memoryFolder({
      'config.json': '{}',
      'model.safetensors': weightFile({}),
      'tokenizer.model': bytes,
    });
    const { tokenizerJson, tokenizerConfig } = await openCheckpoint(folder);
    expect(createTokenizer(tokenizerJson, tokenizerConfig).encode('Once upon')).toEqual(tokenizer.encode('Once upon'));
  });
});

/** Bytes of a field of a message: of bytes, or of a number below 128. */
function encoded(number: number, content: Uint8Array | number): Uint8Array {
  if (typeof content === 'number') return Uint8Array.of(...sizeBytes(number << 3), content);
  return Uint8Array.of(...sizeBytes((number << 3) | 2), ...sizeBytes(content.byteLength), ...content);
}

function sizeBytes(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...sizeBytes(value >> 7)];
}

/** A model with other settings, as make_sentencepiece.py has them: of what stands twice in it, the last counts. */
function withRules(
  model: Uint8Array,
  rules: { readonly map: Uint8Array; readonly byteFallback: boolean; readonly removesSpaces: boolean },
): Uint8Array {
  const bytes = Uint8Array.from(model);
  // Tokens of bytes, `<0x00>` and so on, whose type is 6, become unused ones, 5.
  if (!rules.byteFallback) {
    const isByte = (at: number): boolean => String.fromCharCode(...bytes.subarray(at, at + 3)) === '<0x';
    for (let at = 0; at < bytes.length; at++) if (isByte(at) && bytes[at + 12] === 6) bytes[at + 12] = 5;
  }
  const normalizer = Uint8Array.of(...encoded(2, rules.map), ...encoded(4, Number(rules.removesSpaces)));
  return Uint8Array.of(...bytes, ...encoded(2, encoded(35, Number(rules.byteFallback))), ...encoded(3, normalizer));
}

const someRules = new Uint8Array(gunzipSync(readFileSync(fixturePath('text/sentencepiece/rules.map.gz'))));
const NO_RULES = new Uint8Array(0);

describe('rules of normalisation', () => {
  it.each([
    ['unigram_rules', 'unigram', { map: someRules, byteFallback: true, removesSpaces: true }],
    ['bpe_rules', 'bpe', { map: someRules, byteFallback: false, removesSpaces: true }],
    ['bpe_spaces', 'bpe', { map: NO_RULES, byteFallback: true, removesSpaces: true }],
  ] as const)('are applied as SentencePiece applies them: %s', (name, kind, rules) => {
    const tokenizer = load(withRules(readModel(kind), rules));
    const expected = expectations[name];
    const ids = lines.slice(0, 2000).map((line) => tokenizer.encode(line));
    const count = Math.min(expected?.ids.length ?? 0, Math.floor(ids.length / LINES_OF_A_HASH));
    expect(count).toBeGreaterThan(4);
    expect(hashesOf(ids.map((each) => each.join())).slice(0, count)).toEqual(expected?.ids.slice(0, count));
    const decoded = hashesOf(ids.map((each) => tokenizer.decode(each))).slice(0, count);
    expect(decoded).toEqual(expected?.decoded?.slice(0, count) ?? decoded);
  });

  it('are kept in the tokenizer.json that stands for the model', () => {
    const model = withRules(readModel('bpe'), { map: someRules, byteFallback: true, removesSpaces: true });
    const { tokenizerJson } = readSentencePiece(model, 'tokenizer.model');
    const again = createTokenizer(JSON.parse(JSON.stringify(tokenizerJson)));
    expect(again.encode(' \uFF21\u00A0 \uFB01 ')).toEqual(load(readModel('bpe')).encode('A fi'));
    expect(again.encode('  ')).toEqual([]);
    expect(again.encode('')).toEqual([]);
  });

  it('that are damaged are refused', () => {
    for (const map of [
      someRules.subarray(0, 3),
      someRules.subarray(0, 100),
      Uint8Array.of(5, 0, 0, 0, 1, 2, 3, 4, 5),
    ]) {
      const model = withRules(readModel('bpe'), { map, byteFallback: true, removesSpaces: false });
      expect(() => load(model)).toThrow(WeightFormatError);
    }
    const json = {
      normalizer: { type: 'Precompiled', precompiled_charsmap: '***' },
      model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
    };
    expect(() => createTokenizer(json)).toThrow(/no base64/);
    // Whatever the bytes are, a map comes to an end.
    for (let index = 0; index < 200; index++) {
      const random = new Random(index);
      const bytes = someRules.slice();
      for (let change = 0; change < 20; change++) bytes[random.integer(4, bytes.length - 1)] = random.integer(0, 255);
      expect(CharacterMap.read(bytes).apply('Once upon a time \uFB01 \u00E9')).toBeTypeOf('string');
    }
  });
});

it('says what it cannot compute, and what is no model', () => {
  const bytes = readModel('bpe');
  // Settings behind the others: escape_whitespaces, and a normalizer for what was decoded.
  const bare = Uint8Array.of(...bytes, ...encoded(3, encoded(5, 0)));
  expect(() => load(bare)).toThrow(UnsupportedModelError);
  expect(() => load(bare)).toThrow(/spaces in a way of its own/);
  expect(() => load(Uint8Array.of(...bytes, ...encoded(5, encoded(2, someRules))))).toThrow(/were decoded/);
  expect(() => load(Uint8Array.of(...bytes, ...encoded(2, encoded(3, 3))))).toThrow(/words or characters/);
  expect(() => load(new Uint8Array(0))).toThrow(WeightFormatError);
  expect(() => load(bytes.subarray(0, -3))).toThrow(WeightFormatError);
});
