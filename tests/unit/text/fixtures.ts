import { readFileSync } from 'node:fs';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { Tokenizer } from '../../../packages/models/src/text/tokenizer.ts';

export interface Expected {
  vocabSize: number;
  texts: { text: string; ids: number[]; plainIds: number[]; decoded: string; decodedWithoutSpecial: string }[];
  decodes: { ids: number[]; decoded: string; decodedWithoutSpecial: string }[];
}

export const tokenizerNames = ['tiny', 'stories260k', 'gpt_neox_small'] as const;

const tests = new URL('../../', import.meta.url);

/** Folders that hold the tokenizers: those of models are with the models. */
const folders: Readonly<Record<string, URL>> = {
  tiny: new URL('../packages/checkpoints/models/hybrid/', tests),
  stories260k: new URL('fixtures/models/stories260k/', tests),
  gpt_neox_small: new URL('fixtures/text/gpt_neox_small/', tests),
};

/** `tokenizer.json` or `tokenizer_config.json` of a tokenizer. */
export function readTokenizerFile(name: string, file: string): string {
  const folder = folders[name];
  if (folder === undefined) throw new Error(`There is no tokenizer '${name}'.`);
  return readFileSync(new URL(file, folder), 'utf8');
}

export function loadTokenizer(name: string): Tokenizer {
  return createTokenizer(
    JSON.parse(readTokenizerFile(name, 'tokenizer.json')),
    JSON.parse(readTokenizerFile(name, 'tokenizer_config.json')),
  );
}

export function loadExpected(name: string): Expected {
  return JSON.parse(readFileSync(new URL(`fixtures/text/${name}/expected.json`, tests), 'utf8')) as Expected;
}
