import { readFileSync } from 'node:fs';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { Tokenizer } from '../../../packages/models/src/text/tokenizer.ts';

export interface Expected {
  vocabSize: number;
  texts: { text: string; ids: number[]; plainIds: number[]; decoded: string; decodedWithoutSpecial: string }[];
  decodes: { ids: number[]; decoded: string; decodedWithoutSpecial: string }[];
}

export const tokenizerNames = ['tiny', 'stories260k', 'gpt_neox_small'] as const;

const folder = new URL('../../fixtures/text/', import.meta.url);

export function readFixture(path: string): string {
  return readFileSync(new URL(path, folder), 'utf8');
}

export function loadTokenizer(name: string): Tokenizer {
  return createTokenizer(
    JSON.parse(readFixture(`${name}/tokenizer.json`)),
    JSON.parse(readFixture(`${name}/tokenizer_config.json`)),
  );
}

export function loadExpected(name: string): Expected {
  return JSON.parse(readFixture(`${name}/expected.json`)) as Expected;
}
