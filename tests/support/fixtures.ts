import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Path of a file or folder under tests/fixtures. */
export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}

/** A JSON file under tests/fixtures, with the type that the caller knows it to have. */
export function readFixture<T>(name: string): T {
  return JSON.parse(readFileSync(fixturePath(name), 'utf8')) as T;
}

/** A text file under tests/fixtures. */
export function readText(name: string): string {
  return readFileSync(fixturePath(name), 'utf8');
}

/** tests/fixtures/models/shipped.json: what transformers computes for the shipped checkpoints. */
export interface ShippedGoldens {
  /** Every how many of the logits are kept. */
  readonly stride: number;
  /** Of each model for two prompts: prose, and a phone book of two entries. */
  readonly models: Readonly<
    Record<
      string,
      readonly {
        readonly inputIds: readonly number[];
        readonly greedy: readonly number[];
        /** Logits after the prompt. */
        readonly logits: readonly number[];
        /** The largest |logit| of all. */
        readonly largest: number;
      }[]
    >
  >;
}
