import { ArgumentError } from '@mambalab/kernels';
import type { Tokenizer } from '@mambalab/models';
import { Random } from '../harness/random.ts';
import { PairEncoder } from './encode_pair.ts';
import type { Question } from './questions.ts';

const FIRST =
  'Alice Amir Anna Ben Bruno Carla Chen Clara Daniel Diego Edith Elena Emil Erik Fatima Felix Grace Hana Hugo Ida Ines Ivan Jack Jana Jonas Julia Karim Kate Lars Laura Leo Lina Lucas Maria Marta Max Mei Milan Mona Nadia Nina Noah Olga Omar Oscar Paula Peter Rosa Ruth Samir Sara Simon Sofia Tara Theo Tom Vera Victor Yuki Zoe'.split(
    ' ',
  );
const LAST =
  'Adler Baker Berg Brown Carter Costa Cruz Davis Diaz Eriksen Evans Fischer Ford Fuchs Garcia Gray Haas Hall Hansen Hill Ito Jansen Jones Kaya Keller Khan Klein Kim Lang Lee Lopez Lund Mann Marino Meyer Moore Nagy Novak Okafor Olsen Park Patel Perez Quinn Rao Reed Rossi Sato Schmidt Silva Singh Smith Stone Suzuki Tanaka Torres Vogel Wagner Weber Young'.split(
    ' ',
  );

export interface PhoneBookOptions {
  readonly entries: number;
  /** Questions to make. */
  readonly questions: number;
  /** How many are asked of one book, one after another; of the reversed form always one. */
  readonly perBook: number;
  /** Other names and numbers of the book, looked up before the question. */
  readonly shots: number;
  readonly seed: number;
  /** `reversed` says which name will be asked for before the book. */
  readonly form: 'standard' | 'reversed';
}

interface Entry {
  readonly name: string;
  readonly number: string;
}

/**
 * The Phonebook task for any model: a book of made-up entries, and the question for one number of it.
 *
 * Source: arXiv 2406.07887, section 3.3.3, in the wording of garrett361/long_context_eval.
 *
 * @returns questions, those of one book together
 * @throws ArgumentError for options that make no book
 */
export function phoneBookQuestions(tokenizer: Tokenizer, options: PhoneBookOptions): Question[][] {
  const { entries, questions, shots, form } = options;
  const perBook = form === 'reversed' ? 1 : Math.min(options.perBook, entries - shots);
  if (entries > FIRST.length * LAST.length) {
    throw new ArgumentError(
      `${entries} entries are too many: there are ${FIRST.length * LAST.length} names.`,
      'Give smaller books.',
    );
  }
  if (entries <= shots) {
    throw new ArgumentError(
      `A book of ${entries} entries has no room for ${shots} examples and a question.`,
      'Give larger books, or fewer --shots.',
    );
  }
  const random = new Random(options.seed);
  const encoder = new PairEncoder(tokenizer);
  const groups: Question[][] = [];
  for (let made = 0; made < questions; made += perBook) {
    const book = drawBook(random, entries);
    // The last ones of an order are asked for; the first are examples of every question.
    const order = shuffled(random, entries);
    const examples = order.slice(0, shots).map((index) => entryAt(book, index));
    const asked = order.slice(shots, shots + Math.min(perBook, questions - made));
    groups.push(
      asked.map((index) => {
        const entry = entryAt(book, index);
        const text = form === 'standard' ? standard(book, examples, entry) : reversed(book, examples, entry);
        const { context, continuation } = encoder.encode(text, ` ${entry.number}`);
        return { context, answer: continuation, depth: index / entries };
      }),
    );
  }
  return groups;
}

function standard(book: readonly Entry[], examples: readonly Entry[], { name }: Entry): string {
  const lines = book.map(lineOf).join('');
  const asked = examples.map((entry) => `${questionFor(entry.name)} ${entry.number}\n`).join('');
  return `${lines}${asked}${questionFor(name)}`;
}

function reversed(book: readonly Entry[], examples: readonly Entry[], { name }: Entry): string {
  return (
    `Given a phone book with entries of the form:\n${examples.map(lineOf).join('')}... and so on.\n` +
    `Please find the phone number for ${name}.\nI will ask you for this phone number later.\n` +
    `Memorize it so you can respond correctly.\nRemember ${name}.\nHere is the phonebook:\n\n` +
    `${book.map(lineOf).join('')}Okay, that is the end of the phonebook.\n` +
    `Remember when I asked you to memorize the phone number for ${name}?\n${questionFor(name)}`
  );
}

const lineOf = ({ name, number }: Entry): string => `${name}: ${number}\n`;
const questionFor = (name: string): string => `What is the phone number for ${name}?\nAnswer:`;

function entryAt(book: readonly Entry[], index: number): Entry {
  return book[index] ?? { name: '', number: '' };
}

function drawBook(random: Random, entries: number): Entry[] {
  return shuffled(random, FIRST.length * LAST.length)
    .slice(0, entries)
    .map((index) => ({
      name: `${FIRST[index % FIRST.length] ?? ''} ${LAST[Math.floor(index / FIRST.length)] ?? ''}`,
      number: `${between(random, 200, 999)}-${between(random, 200, 999)}-${between(random, 1000, 9999)}`,
    }));
}

function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random.next() * (most - least + 1));
}

/** The numbers from 0 to `count` - 1 in random order. */
export function shuffled(random: Random, count: number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random.next() * (i + 1));
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return order;
}
