import { UnsupportedModelError } from '@mambalab/kernels';
import type { Tokenizer } from '@mambalab/models';
import { PythonRandom } from './python_random.ts';
import type { Question } from './questions.ts';

const ONSETS = 'b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z'.split(' ');
const VOWELS = 'a e i o u ai ea oa ou'.split(' ');
const CODAS = ['', '', '', 'n', 'r', 'l', 's', 'm', 'k', 't', 'x', 'nd', 'rt'];
const DRAWN_NAMES = 400_000;
const KEPT_NAMES = 40_000;
/** The names after these were never in a training text. */
const TRAINED_NAMES = 36_000;
const SHOTS = 2;
const DIGITS = 7;

/**
 * The phone books that the four small models of this project were trained on, with names that they never saw in
 * training: the generator that measured them in PyTorch, draw for draw, so that a seed gives the same questions.
 *
 *     Phone book:            two entries are looked up before the one that is asked for
 *     Celer: 085-6078
 *     ...
 *     Look up:
 *     Bepar: 347-6121
 *     Celer:
 */
export class TrainingBooks {
  readonly #names: readonly (readonly number[])[];
  readonly #digits: readonly number[];
  readonly #head: readonly number[];
  readonly #lookUp: readonly number[];
  readonly #colon: number;
  readonly #space: number;
  readonly #dash: number;
  readonly #newline: number;
  readonly #start: number;

  /** @throws UnsupportedModelError for a tokenizer that does not take every digit for one token, as that of these models does */
  constructor(tokenizer: Tokenizer) {
    const one = (text: string): number => {
      const [token, ...more] = tokenizer.encode(text, { addSpecialTokens: false });
      if (token !== undefined && more.length === 0) return token;
      throw new UnsupportedModelError(
        `The tokenizer has no single token for '${text === '\n' ? '\\n' : text}'.`,
        "The task 'training' is for the four small models of this project; use 'standard' for others.",
      );
    };
    this.#digits = Array.from({ length: 10 }, (_, digit) => one(String(digit)));
    [this.#colon, this.#space, this.#dash, this.#newline] = [one(':'), one(' '), one('-'), one('\n')];
    this.#start = tokenizer.specialIds.bos ?? one('<|endoftext|>');
    this.#head = tokenizer.encode('Phone book:\n', { addSpecialTokens: false });
    this.#lookUp = tokenizer.encode('Look up:\n', { addSpecialTokens: false });
    this.#names = unseenNames(tokenizer);
  }

  /** The questions that PyTorch was asked, for a seed of 7000 + `entries`: the first `count` of them. */
  questions(entries: number, count: number, seed: number = 7000 + entries): Question[] {
    const random = new PythonRandom(seed);
    return Array.from({ length: count }, () => this.#question(random, entries));
  }

  #question(random: PythonRandom, entries: number): Question {
    const book = this.#book(random, entries);
    const indices = Array.from(book, (_, index) => index);
    const chosen = random.sample(indices, Math.min(SHOTS + 1, entries));
    const target = chosen.at(-1) ?? 0;
    const shots = chosen.slice(0, -1).map((index) => book[index]);
    const asked = book[target];
    return {
      context: [
        this.#start,
        ...this.#head,
        ...book.flatMap(({ line }) => line),
        ...this.#lookUp,
        ...shots.flatMap((entry) => entry?.line ?? []),
        ...(asked?.name ?? []),
        this.#colon,
      ],
      answer: asked?.number ?? [],
      counted: this.#digits,
      depth: target / entries,
    };
  }

  #book(random: PythonRandom, entries: number): Entry[] {
    const taken = new Set<number>();
    const book: Entry[] = [];
    while (book.length < entries) {
      const index = random.below(this.#names.length);
      if (taken.has(index)) continue;
      taken.add(index);
      const name = this.#names[index] ?? [];
      const number = this.#number(random);
      book.push({ name, number, line: [...name, this.#colon, ...number, this.#newline] });
    }
    return book;
  }

  /** ` 085-6078`, the last digit drawn first. */
  #number(random: PythonRandom): number[] {
    const drawn = random.below(10 ** DIGITS);
    const digits = Array.from({ length: DIGITS }, (_, j) => this.#digits[Math.floor(drawn / 10 ** j) % 10] ?? 0);
    return [this.#space, ...digits.slice(0, 3), this.#dash, ...digits.slice(3)];
  }
}

interface Entry {
  readonly name: readonly number[];
  readonly number: readonly number[];
  readonly line: readonly number[];
}

/** Made-up names of two or three tokens: the last tenth of those that were drawn for the training data. */
function unseenNames(tokenizer: Tokenizer): number[][] {
  const random = new PythonRandom(7);
  const drawn = new Set<string>();
  while (drawn.size < DRAWN_NAMES) {
    const syllables = random.choice([2, 2, 3]);
    let name = '';
    for (let i = 0; i < syllables; i++) {
      name += random.choice(ONSETS) + random.choice(VOWELS);
      if (i === syllables - 1 || random.random() < 0.3) name += random.choice(CODAS);
    }
    drawn.add(name.charAt(0).toUpperCase() + name.slice(1));
  }
  const names = [...drawn].sort();
  random.shuffle(names);
  const kept: number[][] = [];
  for (const name of names) {
    const tokens = tokenizer.encode(name, { addSpecialTokens: false });
    if (tokens.length === 2 || tokens.length === 3) kept.push(tokens);
    if (kept.length === KEPT_NAMES) break;
  }
  return kept.slice(TRAINED_NAMES);
}
