import type { WeightDtype } from '@mambalab/models';
import { InvalidArgumentError, Option } from 'commander';
import { RECALL_TASKS } from '../evaluation/recall.ts';

/** The lm-evaluation-harness's own, with which examples are the same. */
const HARNESS_SEED = 1234;
/** With which the small models were asked in PyTorch. */
const BOOK_SEED = 7000;

const DTYPES: readonly WeightDtype[] = ['auto', 'f32', 'f16', 'q8', 'q4'];

const wholeNumber =
  (least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least || text.trim() === '') {
      throw new InvalidArgumentError(`A whole number of at least ${least} is expected.`);
    }
    return value;
  };

const numbers = (text: string): readonly number[] => text.split(',').map(wholeNumber(1));

export const weightsOption = (): Option =>
  new Option('--dtype <dtype>', 'storage of the matrices').choices(DTYPES).default('auto');
export const recallTaskOption = (): Option =>
  new Option('--task <name>', `what is asked for: ${RECALL_TASKS.join(', ')}`).default('standard');
export const entriesOption = (): Option =>
  new Option('--entries <numbers>', 'entries of the books, such as 8,16,32').argParser(numbers);
export const lengthsOption = (): Option =>
  new Option('--lengths <tokens>', 'lengths of the texts of other tasks, such as 1024,4096').argParser(numbers);
export const queriesOption = (): Option =>
  new Option('--queries <number>', 'questions for each size').argParser(wholeNumber(1)).default(64);
export const perBookOption = (): Option =>
  new Option('--per-book <number>', 'questions of one standard book, which is processed once')
    .argParser(wholeNumber(1))
    .default(4);
export const shotsOption = (): Option =>
  new Option('--shots <number>', 'other entries that are looked up before').argParser(wholeNumber(0)).default(2);
export const bookSeedOption = (): Option =>
  new Option('--seed <number>', 'seed of the texts; each size adds its own number to it')
    .argParser(wholeNumber(0))
    .default(BOOK_SEED);
export const dataOption = (): Option =>
  new Option('--data <path>', 'a JSONL file, or a folder of them; may be repeated')
    .argParser((path: string, before: readonly string[] | undefined) => [...(before ?? []), path])
    .makeOptionMandatory();
export const fewShotOption = (): Option =>
  new Option('--few-shot <number>', 'solved examples in front of each question').argParser(wholeNumber(0)).default(0);
export const examplesOption = (): Option =>
  new Option('--examples <file>', 'where examples are taken from; the documents themselves when absent');
export const limitOption = (): Option =>
  new Option('--limit <number>', 'documents of each file to ask about').argParser(wholeNumber(1));
export const maxLengthOption = (): Option =>
  new Option('--max-length <tokens>', 'cut what is longer from the left').argParser(wholeNumber(2));
export const exampleSeedOption = (): Option =>
  new Option('--seed <number>', 'seed of the choice of examples').argParser(wholeNumber(0)).default(HARNESS_SEED);
