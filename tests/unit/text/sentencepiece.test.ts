import { readFileSync } from 'node:fs';
import { MambalabError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
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

describe.each(Object.entries(readFixture<Expected>('text/sentencepiece/expected.json')))(
  'a %s model',
  (name, expected) => {
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
      expect(createTokenizer(tokenizerJson, tokenizerConfig).encode('Once upon')).toEqual(
        tokenizer.encode('Once upon'),
      );
    });
  },
);

it('says what it cannot compute, and what is no model', () => {
  const bytes = readModel('bpe');
  // A normalizer specification behind the other: the last one counts. Field 3, 2 bytes: remove_extra_whitespaces.
  const trimming = Uint8Array.of(...bytes, 0x1a, 2, 0x20, 1);
  expect(() => load(trimming)).toThrow(UnsupportedModelError);
  expect(() => load(trimming)).toThrow(/removes spaces/);
  expect(() => load(Uint8Array.of(...bytes, 0x1a, 3, 0x12, 1, 65))).toThrow(/compiled map/);
  expect(() => load(new Uint8Array(0))).toThrow(WeightFormatError);
  expect(() => load(bytes.subarray(0, -3))).toThrow(WeightFormatError);
});
