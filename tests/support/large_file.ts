// Global set-up of the gpu-browser tests: a file of more than one segment of a cache, which git need not keep.
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Random } from './numbers.ts';

export async function setup(): Promise<void> {
  const folder = fileURLToPath(new URL('../../.cache/large-file/', import.meta.url));
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}large.bin`, new Random(1).integers((11 * 2 ** 20) / 4, 2 ** 32));
}
