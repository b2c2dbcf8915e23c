import { createTokenizer } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { shareFound, TEXT_TASKS, textQuestions } from '../../../packages/bench/src/evaluation/long_texts.ts';
import type { PhoneBookOptions } from '../../../packages/bench/src/evaluation/phone_books.ts';
import { phoneBookQuestions } from '../../../packages/bench/src/evaluation/phone_books.ts';
import { readFixture } from '../../support/fixtures.ts';

const stories = 'models/stories260k/';
const tokenizer = createTokenizer(
  readFixture(`${stories}tokenizer.json`),
  readFixture(`${stories}tokenizer_config.json`),
);
const textOf = (tokens: readonly number[]): string => tokenizer.decode(tokens, { skipSpecialTokens: true }).trimStart();

describe('phone books', () => {
  const options = {
    entries: 5,
    questions: 6,
    perBook: 2,
    shots: 2,
    seed: 1,
    form: 'standard',
  } satisfies PhoneBookOptions;

  it('ask for numbers of one book together, after looking up others', () => {
    const groups = phoneBookQuestions(tokenizer, options);
    expect(groups.map((group) => group.length)).toEqual([2, 2, 2]);
    expect(phoneBookQuestions(tokenizer, options)).toEqual(groups);
    expect(phoneBookQuestions(tokenizer, { ...options, seed: 2 })).not.toEqual(groups);
    const books = groups.map((group) =>
      group.map(({ context, answer, depth }) => {
        const lines = textOf(context).split('\n');
        const book = lines.slice(0, 5);
        expect(book.every((line) => /^\w+ \w+: [2-9]\d\d-[2-9]\d\d-[1-9]\d{3}$/.test(line))).toBe(true);
        const number = new Map(book.map((line) => line.split(': ') as [string, string]));
        const asked = lines.flatMap((line) => /number for (.*)\?/.exec(line)?.[1] ?? []);
        expect(new Set(asked).size).toBe(3);
        // Examples are solved, the last one is the answer.
        expect(lines.slice(6, 9).filter((line) => line.startsWith('Answer:'))).toEqual(
          [`Answer: ${number.get(asked[0] ?? '') ?? ''}`, `Answer: ${number.get(asked[1] ?? '') ?? ''}`].slice(0, 2),
        );
        expect(lines.at(-1)).toBe('Answer:');
        expect(textOf([...context, ...answer]).endsWith(`Answer: ${number.get(asked[2] ?? '') ?? ''}`)).toBe(true);
        expect(Math.round(depth * 5)).toBe(book.findIndex((line) => line.startsWith(`${asked[2] ?? ''}:`)));
        return book.join();
      }),
    );
    expect(new Set(books.flat()).size).toBe(3);
  });

  it('say which name will be asked for before a reversed book', () => {
    const groups = phoneBookQuestions(tokenizer, { ...options, form: 'reversed' });
    expect(groups.map((group) => group.length)).toEqual([1, 1, 1, 1, 1, 1]);
    const text = textOf(groups[0]?.[0]?.context ?? []);
    const name = /Remember (.*)\./.exec(text)?.[1] ?? '-';
    expect(text.startsWith('Given a phone book with entries of the form:\n')).toBe(true);
    expect(text.split(name)).toHaveLength(6);
    expect(text.indexOf(`Remember ${name}.`)).toBeLessThan(text.indexOf(`${name}: `));
  });

  it('place what is asked for evenly', () => {
    const groups = phoneBookQuestions(tokenizer, { ...options, entries: 8, questions: 400, perBook: 1 });
    const counts = [0, 0, 0, 0];
    for (const { depth } of groups.flat()) counts[Math.floor(depth * 4)] = (counts[Math.floor(depth * 4)] ?? 0) + 1;
    // 100 each, with a standard deviation of 8.7.
    expect(counts.every((count) => Math.abs(count - 100) < 35)).toBe(true);
  });

  it('refuse books that cannot be made', () => {
    expect(() => phoneBookQuestions(tokenizer, { ...options, entries: 2 })).toThrow(
      'A book of 2 entries has no room for 2 examples',
    );
    expect(() => phoneBookQuestions(tokenizer, { ...options, entries: 10_000 })).toThrow('10000 entries are too many');
  });
});

describe('long texts', () => {
  const make = (task: string, length: number, count = 1): ReturnType<typeof textQuestions> =>
    textQuestions(tokenizer, { task, length, count, seed: 5 });

  it.each(Object.keys(TEXT_TASKS))('%s fills its length, and is the same for a seed', (task) => {
    const [question] = make(task, 6000);
    expect(question).toEqual(make(task, 6000)[0]);
    const { tokens = [], references = [], maxTokens = 0 } = question ?? {};
    expect(tokens.length + maxTokens).toBeLessThanOrEqual(6000);
    expect(tokens.length + maxTokens).toBeGreaterThan(5800);
    const text = textOf(tokens);
    expect(references.filter((reference) => !text.includes(reference))).toEqual([]);
    expect(() => make(task, 130)).toThrow(/needs \d+ tokens at least; the length is 130/);
  });

  it('hide as many needles as are asked for', () => {
    const needlesOf = (task: string): { readonly names: readonly string[]; readonly references: readonly string[] } => {
      const [question] = make(task, 3000);
      const text = textOf(question?.tokens ?? []);
      const names = Array.from(text.matchAll(/numbers for (\S+) is: \d{7}\./g), ([, name]) => name ?? '');
      return { names, references: question?.references ?? [] };
    };
    const shapes = ['needle', 'needle-keys', 'needle-values', 'needle-queries'].map((task) => {
      const { names, references } = needlesOf(task);
      return [names.length, new Set(names).size, references.length];
    });
    expect(shapes).toEqual([
      [1, 1, 1],
      [4, 4, 1],
      [4, 1, 4],
      [4, 4, 4],
    ]);
  });

  it('chain variables in the order of the text', () => {
    const [question] = make('variables', 3000);
    const { references = [], tokens = [] } = question ?? {};
    const text = textOf(tokens);
    expect(references).toHaveLength(5);
    const places = references.map((name) => text.indexOf(`VAR ${name} = `));
    expect(places.every((place, index) => place > (places[index - 1] ?? -1))).toBe(true);
  });

  it('count words as they say', () => {
    const wordsOf = (task: string, pattern: RegExp): [string, number][] => {
      const [question] = make(task, 6000);
      const text = textOf(question?.tokens ?? []);
      const counts = new Map<string, number>();
      for (const [, word = ''] of text
        .slice(text.lastIndexOf(task === 'common-words' ? 'Below' : 'Read'))
        .matchAll(pattern)) {
        counts.set(word, (counts.get(word) ?? 0) + 1);
      }
      return [...counts].toSorted((a, b) => b[1] - a[1]);
    };
    const common = wordsOf('common-words', /\d+\. ([a-z]+)/g);
    expect(common.slice(0, 11).map(([, count]) => count)).toEqual([...Array.from({ length: 10 }, () => 6), 1]);
    expect(
      common
        .slice(0, 10)
        .map(([word]) => word)
        .toSorted(),
    ).toEqual([...(make('common-words', 6000)[0]?.references ?? [])].toSorted());
    const frequent = wordsOf('frequent-words', / ([a-z]{6})(?= )/g);
    expect(new Set(frequent.slice(0, 3).map(([word]) => word))).toEqual(
      new Set(make('frequent-words', 6000)[0]?.references),
    );
  });

  it('score the share of what was found', () => {
    expect(shareFound('It is 12 and Ab.', ['12', 'ab', '7'])).toBeCloseTo(2 / 3, 12);
  });
});
