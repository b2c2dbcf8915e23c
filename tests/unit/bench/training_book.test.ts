import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createTokenizer } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { TrainingBooks } from '../../../packages/bench/src/evaluation/training_book.ts';
import { readFixture } from '../../support/fixtures.ts';

const folder = new URL('../../../packages/checkpoints/models/mamba2/', import.meta.url);
const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, folder), 'utf8'));
const tokenizer = createTokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
const books = new TrainingBooks(tokenizer);

describe('TrainingBooks', () => {
  it('writes the text that the Python generator writes', () => {
    const [first] = books.questions(4, 1);
    expect(tokenizer.decode([...(first?.context ?? []), ...(first?.answer ?? [])])).toBe(
      '<|endoftext|>Phone book:\nSaithom: 903-9981\nYoujail: 065-2523\nNivound: 360-5585\nBisten: 818-6194\nLook up:\n' +
        'Saithom: 903-9981\nNivound: 360-5585\nBisten: 818-6194',
    );
    expect(first?.depth).toBe(3 / 4);
  });

  // Hashes of [context, answer, index] of the 256 questions that PyTorch was asked, as Python's json writes them.
  const { questions } = readFixture<{ questions: Record<string, string> }>('evaluation/recall.json');
  it.each(Object.entries(questions))(
    'gives the very questions of %s entries that PyTorch was asked',
    (size, expected) => {
      const entries = Number(size);
      const hash = createHash('sha256');
      for (const { context, answer, depth } of books.questions(entries, 256)) {
        hash.update(JSON.stringify([context, answer, Math.round(depth * entries)]));
      }
      expect(hash.digest('hex').slice(0, 16)).toBe(expected);
    },
  );

  it('refuses a tokenizer of another kind', () => {
    const stories = 'models/stories260k/';
    const other = createTokenizer(
      readFixture(`${stories}tokenizer.json`),
      readFixture(`${stories}tokenizer_config.json`),
    );
    expect(() => new TrainingBooks(other)).toThrow("use 'standard'");
  });
});
