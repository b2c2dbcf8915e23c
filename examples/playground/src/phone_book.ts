import type { Model } from '@mambalab/models';
import type { ModelChoice, Shelf } from './shelf.ts';
import type { Tasks } from './tasks.ts';
import { Observable } from './observable.ts';

export interface Entry {
  readonly name: string;
  readonly number: string;
}

/** What a model answered when it was asked for one entry. */
export interface Answer extends Entry {
  /** From 0, the first of the books of this length. */
  readonly book: number;
  /** From 0, the first entry of the book. */
  readonly position: number;
  readonly answer: string;
  readonly isRight: boolean;
}

export interface BookResult {
  readonly key: string;
  readonly label: string;
  readonly entries: number;
  readonly answers: readonly Answer[];
}

/** Numbers from 0 to 1 that a seed decides (mulberry32), so that every model sees the same books. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const STARTS = ['B', 'D', 'F', 'G', 'H', 'K', 'L', 'M', 'N', 'P', 'R', 'S', 'T', 'V', 'W'];
const MIDDLES = ['ar', 'el', 'in', 'or', 'un', 'est', 'ist', 'al', 'er', 'om'];
const ENDS = ['a', 'en', 'o', 'is', 'el', 'y'];

/** A book of made-up names, none of them twice, with numbers of seven digits. */
export function makeBook(entries: number, seed: number): Entry[] {
  const random = randomFrom(seed);
  const pick = (list: readonly string[]): string => list[Math.floor(random() * list.length)] ?? '';
  const book = new Map<string, string>();
  while (book.size < entries) {
    const digits = String(Math.floor(random() * 1e7)).padStart(7, '0');
    book.set(pick(STARTS) + pick(MIDDLES) + pick(ENDS), `${digits.slice(0, 3)}-${digits.slice(3)}`);
  }
  return Array.from(book, ([name, number]) => ({ name, number }));
}

const ANSWER_TOKENS = 16;

/**
 * Asks a model for every entry of a book. The book is read once; each question is put to a fork of what the model
 * remembers of it. Two other entries show what an answer looks like, as in arXiv 2406.07887.
 */
export async function askForAll(
  model: Model,
  book: readonly Entry[],
  signal: AbortSignal,
  onAnswer: (answer: Omit<Answer, 'book'>) => void,
): Promise<void> {
  const line = ({ name, number }: Entry): string => `${name}: ${number}\n`;
  const encode = (text: string): number[] => [...model.tokenizer.encode(text, { addSpecialTokens: false })];
  const endOfText = model.tokenizer.tokenToId('<|endoftext|>');
  using reader = model.session();
  const text = `Phone book:\n${book.map(line).join('')}Look up:\n`;
  await reader.append([...(endOfText === undefined ? [] : [endOfText]), ...encode(text)], { signal });
  for (const [position, entry] of book.entries()) {
    const others = book.filter((other) => other !== entry);
    const shots = [others[(position + 1) % others.length], others[(position + 2) % others.length]];
    const question = `${shots.flatMap((shot) => (shot === undefined ? [] : [line(shot)])).join('')}${entry.name}:`;
    using fork = reader.fork();
    const options = { maxTokens: ANSWER_TOKENS, temperature: 0, stop: '\n', signal };
    const { text: written } = await fork.generate(encode(question), options).result;
    const answer = written.trim();
    onAnswer({ ...entry, position, answer, isRight: answer === entry.number });
  }
}

interface Inquiry {
  readonly entries: number;
  /** How many books of that length. */
  readonly books: number;
  readonly seed: number;
}

/** Recall of several models over books of several lengths. */
export class PhoneBook {
  readonly results: Observable<readonly BookResult[]> = new Observable<readonly BookResult[]>([]);
  readonly status: Observable<string> = new Observable('');
  readonly #shelf: Shelf;
  readonly #tasks: Tasks;

  constructor(shelf: Shelf, tasks: Tasks) {
    this.#shelf = shelf;
    this.#tasks = tasks;
  }

  start(choices: readonly ModelChoice[], lengths: readonly number[], books: number, seed: number): Promise<void> {
    return this.#tasks.start(async (signal) => {
      this.results.value = [];
      try {
        for (const { choice, entries } of choices.flatMap((choice) =>
          lengths.map((entries) => ({ choice, entries })),
        )) {
          await this.#ask(choice, { entries, books, seed }, signal);
        }
        this.status.value = 'Every entry was asked for.';
      } catch (error) {
        this.status.value = signal.aborted ? 'Stopped.' : 'Not every entry was asked for.';
        throw error;
      }
    });
  }

  async #ask(choice: ModelChoice, { entries, books, seed }: Inquiry, signal: AbortSignal): Promise<void> {
    const label = choice.label.replace(', shipped', '');
    this.status.value = `Loading ${label} …`;
    const model = await this.#shelf.open(choice, signal);
    const before = this.results.value;
    const answers: Answer[] = [];
    this.status.value = `${label} reads a book of ${entries} entries …`;
    for (let book = 0; book < books; book++) {
      await askForAll(model, makeBook(entries, 1000 * seed + 100 * book + entries), signal, (answer) => {
        answers.push({ ...answer, book });
        this.status.value = `${label}: ${answers.length} of ${entries * books} entries asked for`;
        this.results.value = [...before, { key: choice.key, label, entries, answers: [...answers] }];
      });
    }
  }
}

export const shareRight = (answers: readonly Answer[]): number =>
  answers.filter(({ isRight }) => isRight).length / Math.max(1, answers.length);
