import { InvalidArgumentError, Option } from 'commander';
import type { ForcedChoices } from '@mambalab/kernels';

/** What both commands know of the device and the report. */
export interface CommonOptions {
  readonly json?: string;
  readonly quick?: boolean;
  readonly toggles: 'default' | 'native';
  readonly seed?: number;
  /** GiB */
  readonly memory?: number;
}

export interface KernelsOptions extends CommonOptions {
  readonly simd?: 'baseline' | 'subgroups';
  readonly force: ForcedChoices;
  readonly all?: boolean;
  readonly repeats?: number;
  /** False after --no-time. */
  readonly time: boolean;
}

export interface ModelsOptions extends CommonOptions {
  readonly preset: readonly string[];
  readonly dtype?: string;
  readonly prompts?: readonly number[];
  readonly steps?: number;
  readonly batch?: readonly number[];
  readonly draft?: string;
}

export interface LeaksOptions extends CommonOptions {
  readonly generations: number;
  readonly sessions: number;
}

export const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('A number above 0 is expected.');
  return value;
};

export const integer = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('A whole number above 0 is expected.');
  return value;
};

/** Adds `axis=choice` to what is forced. */
export function parseForce(text: string, before: ForcedChoices): ForcedChoices {
  const [axis, choice, ...rest] = text.split('=');
  if (!axis || !choice || rest.length > 0) throw new InvalidArgumentError('axis=choice is expected.');
  return { ...before, [axis]: choice };
}

export const jsonOption = (): Option => new Option('--json <file>', 'also write the results to a file');
export const quickOption = (): Option => new Option('--quick', 'fewer samples and smaller cases');
export const togglesOption = (): Option =>
  new Option('--toggles <set>', 'what Dawn protects against: as in browsers, or nothing')
    .choices(['default', 'native'])
    .default('default');
export const seedOption = (): Option =>
  new Option('--seed <number>', 'seed of the random inputs; a fresh one when absent').argParser(integer);
export const memoryOption = (): Option =>
  new Option('--memory <GiB>', 'device memory that a case may take').argParser(positive);
export const simdOption = (): Option =>
  new Option('--simd <choice>', 'force the variant of every kernel').choices(['baseline', 'subgroups']);
export const forceOption = (): Option =>
  new Option('--force <axis=choice>', 'force another axis of variants; may be repeated')
    .argParser(parseForce)
    .default({}, 'none');
export const allOption = (): Option =>
  new Option('--all', 'also the cases that are too much work for a software adapter');
export const repeatsOption = (): Option =>
  new Option(
    '--repeats <number>',
    'also run every check so often on the same inputs: results must agree in every bit',
  ).argParser(integer);
export const timeOption = (): Option => new Option('--no-time', 'verify only');
export const presetOption = (): Option =>
  new Option('--preset <name>', 'a model shape with random weights; may be repeated')
    .argParser((name: string, before: readonly string[]) => [...before, name])
    .default([], 'none');
export const dtypeOption = (): Option => new Option('--dtype <dtype>', 'storage type of the weights');
export const promptsOption = (): Option =>
  new Option('--prompts <tokens>', 'lengths of prompts, such as 128,2048').argParser((text: string) =>
    text.split(',').map(integer),
  );
export const batchOption = (): Option =>
  new Option('--batch <sizes>', 'also decode so many texts at the same time, such as 1,4,16,64').argParser(
    (text: string) => text.split(',').map(integer),
  );
export const draftOption = (): Option =>
  new Option('--draft <source>', 'also decode with guesses: by a model, a preset, or `lookup` in the text so far');
export const generationsOption = (): Option =>
  new Option('--generations <number>', 'texts to generate').argParser(integer).default(10_000);
export const sessionsOption = (): Option =>
  new Option('--sessions <number>', 'sessions to use').argParser(integer).default(1000);
export const stepsOption = (): Option =>
  new Option('--steps <tokens>', 'tokens decoded in each sample').argParser(integer);
