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

/** Path of a shipped checkpoint. */
export function checkpointPath(name: string): string {
  return fileURLToPath(new URL(`../../packages/checkpoints/models/${name}`, import.meta.url));
}
