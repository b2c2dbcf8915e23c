import { ContextLengthError } from '@mambalab/kernels';
import type { Tokenizer } from '@mambalab/models';
import { Random } from '../harness/random.ts';
import { shuffled } from './phone_books.ts';

/** A long text, and what an answer to the question at its end must hold. */
export interface TextQuestion {
  readonly tokens: readonly number[];
  readonly references: readonly string[];
  /** Tokens that the answer may take. */
  readonly maxTokens: number;
}

/** How a task is written, with `size` units of filling. */
interface TextMaker {
  readonly maxTokens: number;
  readonly make: (random: Random, size: number) => { readonly text: string; readonly references: readonly string[] };
}

const NOISE = 'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';
const ONSETS = 'b bl br c cl d dr f g gr h j k l m n p pl r s st t tr v w z'.split(' ');
const RIMES = 'ab ad an ar el em en er id il in ir od ol om on or ub ul um un ur'.split(' ');
const LETTERS = [...'abcdefghijklmnopqrstuvwxyz'];
const NEEDLES = 4;
const HOPS = 4;
const COMMON = 10;

/**
 * Synthetic tasks of RULER whose texts are generated: needles in a haystack, chains of variables, frequent words. Words
 * are made up, so that no list of them is needed; the wording of prompts is RULER's.
 *
 * Source: Hsieh et al., RULER (arXiv 2404.06654); NVIDIA/RULER, `scripts/data/synthetic`.
 */
export const TEXT_TASKS: Readonly<Record<string, TextMaker>> = {
  needle: needles({ keys: 1, values: 1, asked: 1 }),
  'needle-keys': needles({ keys: NEEDLES, values: 1, asked: 1 }),
  'needle-values': needles({ keys: 1, values: NEEDLES, asked: 1 }),
  'needle-queries': needles({ keys: NEEDLES, values: 1, asked: NEEDLES }),
  variables: { maxTokens: 30, make: variables },
  'common-words': { maxTokens: 120, make: commonWords },
  'frequent-words': { maxTokens: 50, make: frequentWords },
};

/**
 * `count` questions of at most `length` tokens, the answer's included, and as near to it as the filling allows.
 *
 * @throws ContextLengthError if the task does not fit into the length
 */
export function textQuestions(
  tokenizer: Tokenizer,
  {
    task,
    length,
    count,
    seed,
  }: { readonly task: string; readonly length: number; readonly count: number; readonly seed: number },
): TextQuestion[] {
  const maker = TEXT_TASKS[task];
  if (maker === undefined) throw new RangeError(`There is no task '${task}'.`);
  const { make, maxTokens } = maker;
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    // Every size of one question is made from the same beginning of random numbers.
    const own = Math.floor(random.next() * 2 ** 31);
    const tokensOf = (size: number): readonly number[] => tokenizer.encode(make(new Random(own), size).text);
    const room = length - maxTokens;
    const least = tokensOf(0).length;
    if (least > room) {
      throw new ContextLengthError(
        `The task '${task}' needs ${least + maxTokens} tokens at least; the length is ${length}.`,
        'Give a larger length.',
      );
    }
    let [fits, exceeds] = [0, 1];
    while (tokensOf(exceeds).length <= room) [fits, exceeds] = [exceeds, 2 * exceeds];
    while (exceeds - fits > 1) {
      const middle = Math.floor((fits + exceeds) / 2);
      if (tokensOf(middle).length <= room) fits = middle;
      else exceeds = middle;
    }
    return { tokens: tokensOf(fits), references: make(new Random(own), fits).references, maxTokens };
  });
}

/** The share of references that an answer holds, in whatever case. */
export function shareFound(answer: string, references: readonly string[]): number {
  const text = answer.toLowerCase();
  return references.filter((reference) => text.includes(reference.toLowerCase())).length / references.length;
}

interface NeedleShape {
  readonly keys: number;
  readonly values: number;
  /** Keys that are asked for. */
  readonly asked: number;
}

function needles({ keys, values, asked }: NeedleShape): TextMaker {
  return {
    maxTokens: 128,
    make: (random, size) => {
      const names = Array.from({ length: keys }, () => `${word(random)}-${word(random)}`);
      const numbers = names.map(() => Array.from({ length: values }, () => String(whole(random, 10 ** 6, 10 ** 7))));
      const hidden = names.flatMap((name, key) =>
        (numbers[key] ?? []).map((number) => `One of the special magic numbers for ${name} is: ${number}.`),
      );
      const context = scatter(random, shuffledOf(random, hidden), size).join('\n');
      const chosen = shuffled(random, keys).slice(0, asked);
      const queries = chosen.map((key) => names[key] ?? '');
      const query =
        queries.length > 1 ? `${queries.slice(0, -1).join(', ')}, and ${queries.at(-1) ?? ''}` : (queries[0] ?? '');
      const isOne = asked * values === 1;
      const [some, are, noun] = isOne ? ['A', 'is', 'number'] : ['Some', 'are all', 'numbers'];
      const text =
        `${some} special magic ${noun} ${isOne ? 'is' : 'are'} hidden within the following text. ` +
        `Make sure to memorize it. I will quiz you about the ${noun} afterwards.\n${context}\n` +
        `What ${are} the special magic ${noun} for ${query} mentioned in the provided text? ` +
        `The special magic ${noun} for ${query} mentioned in the provided text ${isOne ? 'is' : 'are'}`;
      return { text, references: chosen.flatMap((key) => numbers[key] ?? []) };
    },
  };
}

function variables(random: Random, size: number): { readonly text: string; readonly references: readonly string[] } {
  const problem = (hops: number, letters: number, filling: number): { text: string; names: string[] } => {
    const names: string[] = [];
    while (names.length <= hops) {
      const name = Array.from({ length: letters }, () => pick(random, LETTERS).toUpperCase()).join('');
      if (!names.includes(name)) names.push(name);
    }
    const value = whole(random, 10_000, 100_000);
    const chain = names.map((name, hop) => `VAR ${name} = ${hop === 0 ? value : `VAR ${names[hop - 1] ?? ''}`}`);
    const context = scatter(random, chain, filling).join('\n');
    const text =
      'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n' +
      `${context}\nQuestion: Find all variables that are assigned the value ${value} in the text above. ` +
      'Answer: According to the chain(s) of variable assignment in the text above, ' +
      `${names.length} variables are assigned the value ${value}, they are:`;
    return { text, names };
  };
  // As in RULER, a short one is solved first.
  const example = problem(HOPS, 3, 5);
  const asked = problem(HOPS, 5, size);
  return { text: `${example.text} ${example.names.join(' ')}\n\n${asked.text}`, references: asked.names };
}

function commonWords(random: Random, size: number): { readonly text: string; readonly references: readonly string[] } {
  const list = (common: number, rare: number, count: number): { text: string; words: string[] } => {
    const words = distinctWords(random, COMMON + count);
    const all = words.flatMap((one, index) => Array.from({ length: index < COMMON ? common : rare }, () => one));
    const context = numbered(shuffledOf(random, all));
    const text =
      'Below is a numbered list of words. In these words, some appear more often than others. ' +
      `Memorize the ones that appear most often.\n${context}\n` +
      'Question: What are the 10 most common words in the above list? ' +
      'Answer: The top 10 words that appear most often in the list are:';
    return { text, words: words.slice(0, COMMON) };
  };
  const example = list(3, 1, COMMON);
  const asked = list(6, 1, size);
  return { text: `${example.text} ${numbered(example.words)}\n${asked.text}`, references: asked.words };
}

/** Words whose numbers fall with the square of their rank; the first is dots, and is not asked for. */
function frequentWords(
  random: Random,
  size: number,
): { readonly text: string; readonly references: readonly string[] } {
  const kinds = 50;
  const words = new Set<string>();
  while (words.size < kinds) words.add(Array.from({ length: 6 }, () => pick(random, LETTERS)).join(''));
  const ranked = ['...', ...[...words].slice(1)];
  const total = 32 + size;
  // The sum over all ranks of 1 / rank^2 is pi^2 / 6.
  const counts = ranked.map((_, rank) => Math.floor((total * 6) / (Math.PI * (rank + 1)) ** 2));
  const all = ranked.flatMap((one, rank) => Array.from({ length: counts[rank] ?? 0 }, () => one));
  const text =
    'Read the following coded text and track the frequency of each coded word. ' +
    `Find the three most frequently appeared coded words. ${shuffledOf(random, all).join(' ')}\n` +
    "Question: Do not provide any explanation. Please ignore the dots '....'. " +
    'What are the three most frequently appeared words in the above coded text? ' +
    'Answer: According to the coded text above, the three most frequently appeared words are:';
  return { text, references: ranked.slice(1, 4) };
}

/** Lines of noise with others at random places among them, in their order. */
function scatter(random: Random, lines: readonly string[], size: number): string[] {
  const places = shuffled(random, size + lines.length).slice(0, lines.length);
  const sorted = places.toSorted((a, b) => a - b);
  const text = Array.from({ length: size + lines.length }, () => NOISE);
  for (const [index, place] of sorted.entries()) text[place] = lines[index] ?? '';
  return text;
}

const pick = <T>(random: Random, values: readonly T[]): T => values[Math.floor(random.next() * values.length)] as T;
const whole = (random: Random, least: number, below: number): number =>
  least + Math.floor(random.next() * (below - least));
const shuffledOf = <T>(random: Random, values: readonly T[]): T[] =>
  shuffled(random, values.length).map((index) => values[index] as T);
const numbered = (words: readonly string[]): string => words.map((one, index) => `${index + 1}. ${one}`).join(' ');

/** A made-up word of two syllables. */
function word(random: Random): string {
  return pick(random, ONSETS) + pick(random, RIMES) + pick(random, ONSETS) + pick(random, RIMES);
}

function distinctWords(random: Random, count: number): string[] {
  const words = new Set<string>();
  while (words.size < count) words.add(word(random));
  return [...words];
}
