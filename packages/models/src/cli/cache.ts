import { clearCache, listCache } from '../node.ts';
import type { StoredFile } from '../surface.ts';
import { cacheFolder } from '../weights/node_cache.ts';
import { formatBytes } from './terminal.ts';

export interface CacheFlags {
  readonly json?: boolean;
}

/** `mambalab cache list`: what is kept of models that were downloaded. */
export async function listCached({ json }: CacheFlags): Promise<void> {
  const files = await listCache();
  const folder = cacheFolder();
  const bytes = storedBytes(files);
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ folder, bytes, files })}\n`);
    return;
  }
  const lines = [...bySource(files)].flatMap(([source, own]) => [
    `${source}: ${formatBytes(storedBytes(own))}`,
    ...own.map((file) => `  ${file.file || file.key}: ${formatBytes(file.size)}${stateOf(file)}`),
  ]);
  process.stdout.write([...lines, `${formatBytes(bytes)} in ${folder}`, ''].join('\n'));
}

/** `mambalab cache clear [SOURCE]`: removes the files of one source, or all. */
export async function clearCached(source: string | undefined, { json }: CacheFlags): Promise<void> {
  const removed = await clearCache(source === undefined ? {} : { source });
  const bytes = storedBytes(removed);
  process.stdout.write(
    json === true
      ? `${JSON.stringify({ folder: cacheFolder(), bytes, files: removed })}\n`
      : `Removed ${removed.length} files, ${formatBytes(bytes)}.\n`,
  );
}

function stateOf({ whole, storedBytes: stored }: StoredFile): string {
  return whole ? '' : ` (${formatBytes(stored)} of it are here)`;
}

function storedBytes(files: readonly StoredFile[]): number {
  return files.reduce((sum, file) => sum + file.storedBytes, 0);
}

function bySource(files: readonly StoredFile[]): Map<string, StoredFile[]> {
  const groups = new Map<string, StoredFile[]>();
  for (const file of files) groups.set(file.source, [...(groups.get(file.source) ?? []), file]);
  return groups;
}
