import { InvalidArgumentError, Option } from 'commander';
import type { Storage } from '../storages.ts';
import { STORAGES } from '../storages.ts';
import type { CommonOptions } from './options.ts';
import { positive } from './options.ts';

export interface ContextCommandOptions extends CommonOptions {
  readonly preset: string;
  readonly architectures?: readonly string[];
  readonly lengths?: readonly number[];
  readonly batches?: readonly number[];
  readonly layersScale: number;
  readonly steps?: number;
  readonly dtype: Storage;
  readonly minutes?: number;
  /** False after --no-ablation. */
  readonly ablation: boolean;
  /** False after --no-prefill. */
  readonly prefill: boolean;
}

const UNITS: Readonly<Record<string, number>> = { k: 1024, m: 2 ** 20 };

/** `1k,4k,131072` as whole numbers, in rising order, none twice. @throws InvalidArgumentError */
export function parseTokens(text: string): readonly number[] {
  const values = text.split(',').map((part) => {
    const [, digits = '', unit = ''] = /^\s*(\d+)\s*([km]?)\s*$/i.exec(part) ?? [];
    const value = Number(digits) * (UNITS[unit.toLowerCase()] ?? 1);
    if (!(value >= 1)) throw new InvalidArgumentError(`'${part}' is not a whole number above 0, such as 4096 or 4k.`);
    return value;
  });
  return [...new Set(values)].sort((a, b) => a - b);
}

export const scaleOption = (scales: readonly string[]): Option =>
  new Option(
    '--preset <size>',
    `size of the family: ${scales.join(', ')}, or auto by memory and measured speed`,
  ).default('auto');
export const architecturesOption = (): Option =>
  new Option('--architectures <names>', 'such as hybrid,transformer; all when absent').argParser((text: string) =>
    text.split(',').map((name) => name.trim()),
  );
export const lengthsOption = (): Option =>
  new Option('--lengths <tokens>', 'contexts, such as 1k,32k,128k').argParser(parseTokens);
export const batchesOption = (): Option =>
  new Option('--batches <numbers>', 'sequences decoded together, such as 1,8,32').argParser(parseTokens);
export const layersScaleOption = (): Option =>
  new Option('--layers-scale <factor>', 'share of the layers, at full width').argParser(positive).default(1);
export const storageOption = (): Option =>
  new Option('--dtype <dtype>', 'storage type of the weights').choices(STORAGES).default('f16');
export const minutesOption = (): Option =>
  new Option('--minutes <number>', 'begin nothing new after so long').argParser(positive);
export const ablationOption = (): Option =>
  new Option('--no-ablation', 'leave out the shares of attention at fixed depth');
export const prefillOption = (): Option => new Option('--no-prefill', 'leave out real prompts');
