import type { Cache } from './cache.ts';
import { ADDRESSES, FILES, parseStored, removeContent, SEGMENT_NAME } from './cached_file.ts';
import { PREPARED } from './prepared_weights.ts';

/** A file in a cache, or the weights of a model as they lie on the GPU. */
export interface StoredFile {
  /** The hub id, or the address of the folder, that it was first loaded from; empty where that is not known. */
  readonly source: string;
  /** Its name there. */
  readonly file: string;
  /** Bytes of the whole file. */
  readonly size: number;
  /** Bytes that are here. */
  readonly storedBytes: number;
  /** Whether all of it is here and was checked. */
  readonly whole: boolean;
  /** Whether it is weights as they lie on the GPU, which `file` then describes. */
  readonly prepared: boolean;
  /** Names its content. */
  readonly key: string;
}

/** What a cache holds, sorted by source and name. */
export async function listStored(cache: Cache): Promise<StoredFile[]> {
  const files = [...(await listUnder(cache, FILES)), ...(await listUnder(cache, PREPARED))];
  return files.sort((a, b) => compare(a.source, b.source) || compare(a.file, b.file) || compare(a.key, b.key));
}

async function listUnder(cache: Cache, prefix: string): Promise<StoredFile[]> {
  const groups = new Map<string, { bytes: number; whole: boolean }>();
  for (const { key, byteLength } of await cache.list(prefix)) {
    const [, content = '', name = ''] = key.split('/');
    const group = groups.get(content) ?? { bytes: 0, whole: false };
    if (SEGMENT_NAME.test(name)) group.bytes += byteLength;
    if (name === 'whole') group.whole = true;
    groups.set(content, group);
  }
  return await Promise.all(
    [...groups].map(async ([key, { bytes, whole }]): Promise<StoredFile> => {
      const about = parseStored((await cache.get(`${prefix}${key}/about`)) ?? new Uint8Array()) ?? {};
      const { source, file, size }: { source?: unknown; file?: unknown; size?: unknown } = about;
      return {
        source: typeof source === 'string' ? source : '',
        file: typeof file === 'string' ? file : '',
        size: typeof size === 'number' ? size : bytes,
        storedBytes: bytes,
        whole,
        prepared: prefix === PREPARED,
        key,
      };
    }),
  );
}

/**
 * Removes files from a cache: those of one source, or everything. What is being loaded meanwhile is loaded again.
 *
 * @param source as {@link StoredFile.source}
 * @returns what was removed
 */
export async function clearStored(cache: Cache, source?: string): Promise<StoredFile[]> {
  const removed = (await listStored(cache)).filter((file) => source === undefined || file.source === source);
  for (const { key, prepared } of removed) await removeContent(cache, `${prepared ? PREPARED : FILES}${key}/`);
  for (const { key } of await cache.list(ADDRESSES)) {
    const found = parseStored((await cache.get(key)) ?? new Uint8Array());
    const isOther = source !== undefined && !(found !== undefined && 'source' in found && found.source === source);
    if (!isOther) await cache.delete(key);
  }
  return removed;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
