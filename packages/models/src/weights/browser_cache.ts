import { ArgumentError, StorageQuotaError } from '@mambalab/kernels';
import type { ByteRange, Cache, CacheValue } from './cache.ts';

/** The name of the folder or cache of the origin, and of its locks. */
const NAME = 'mambalab';

/**
 * The cache of this origin: its private file system, or where a browser has none, its Cache API.
 *
 * @throws ArgumentError where there is neither, as in some private windows and on pages without a secure context
 */
export async function openBrowserCache(): Promise<Cache> {
  const cache = await findBrowserCache();
  if (cache !== undefined) return cache;
  throw new ArgumentError(
    'This page has no storage for files.',
    'Serve it over https or from localhost, outside of private windows, or load with `cache: false`.',
  );
}

/** As {@link openBrowserCache}, or undefined where there is none. */
export async function findBrowserCache(): Promise<Cache | undefined> {
  const storage = (globalThis.navigator as Navigator | undefined)?.storage as StorageManager | undefined;
  try {
    const root = await storage?.getDirectory?.();
    if (root !== undefined) return fileSystemCache(await root.getDirectoryHandle(NAME, { create: true }));
  } catch (error) {
    // Private windows of some browsers refuse.
    if (!(error instanceof DOMException)) throw error;
  }
  try {
    return typeof caches === 'undefined' ? undefined : responseCache(await caches.open(NAME));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return undefined;
  }
}

/**
 * A cache in a folder of the origin's private file system. A file that is being written is empty until it is whole,
 * and an empty file counts as none.
 */
export function fileSystemCache(folder: FileSystemDirectoryHandle): Cache {
  const find = async (key: string): Promise<File | undefined> => {
    try {
      const { parent, name } = await placeOf(folder, key, false);
      return await (await parent.getFileHandle(name)).getFile();
    } catch (error) {
      return undefinedIfMissing(error);
    }
  };
  return {
    ...shared,
    get: async (key, range, signal) => {
      const file = await find(key);
      return file === undefined || file.size === 0 ? undefined : await readBlob(file, range, signal);
    },
    put: async (key, bytes, signal) => {
      signal?.throwIfAborted();
      const { parent, name } = await placeOf(folder, key, true);
      const handle = await parent.getFileHandle(name, { create: true });
      // What is written goes elsewhere, and takes the place of the file when the stream closes.
      const stream = await handle.createWritable();
      try {
        await stream.write(bytes as Uint8Array<ArrayBuffer>);
        signal?.throwIfAborted();
        await stream.close();
      } catch (error) {
        await stream.abort().catch(() => undefined);
        if ((await handle.getFile()).size === 0) await parent.removeEntry(name).catch(() => undefined);
        signal?.throwIfAborted();
        throw await explainWrite(error, bytes.byteLength);
      }
    },
    list: async (prefix = '') => {
      const values: CacheValue[] = [];
      await listFolder(folder, '', prefix, values);
      return values;
    },
    delete: async (key) => {
      try {
        const { parent, name } = await placeOf(folder, key, false);
        await parent.removeEntry(name);
      } catch (error) {
        undefinedIfMissing(error);
      }
    },
  };
}

/** A browser that runs out of room in the middle of a write may only say that the write broke off. */
async function explainWrite(error: unknown, needed: number): Promise<unknown> {
  const room = await shared.room();
  if (room === undefined || room >= needed) return error;
  return new StorageQuotaError(
    `The browser has room for ${room} more bytes of this site; ${needed} are needed.`,
    'Remove files that are no longer needed.',
    { cause: error },
  );
}

async function placeOf(
  folder: FileSystemDirectoryHandle,
  key: string,
  create: boolean,
): Promise<{ readonly parent: FileSystemDirectoryHandle; readonly name: string }> {
  const parts = key.split('/');
  const name = parts.pop() ?? key;
  let parent = folder;
  for (const part of parts) parent = await parent.getDirectoryHandle(part, { create });
  return { parent, name };
}

async function listFolder(
  folder: FileSystemDirectoryHandle,
  path: string,
  prefix: string,
  values: CacheValue[],
): Promise<void> {
  for await (const [name, entry] of folder.entries()) {
    const key = path + name;
    if (entry.kind === 'directory') {
      const inside = `${key}/`;
      if (!inside.startsWith(prefix) && !prefix.startsWith(inside)) continue;
      await listFolder(entry as FileSystemDirectoryHandle, inside, prefix, values);
    } else if (key.startsWith(prefix)) {
      // Another tab may have removed it since.
      const file = await (entry as FileSystemFileHandle).getFile().catch(undefinedIfMissing);
      if (file !== undefined && file.size > 0) values.push({ key, byteLength: file.size });
    }
  }
}

/** The Cache API knows requests; nothing is ever fetched from this address, which no host can have. */
const ADDRESS = 'https://mambalab.invalid/';
const LENGTH = 'x-byte-length';

/** A cache in the Cache API. */
export function responseCache(responses: globalThis.Cache): Cache {
  return {
    ...shared,
    get: async (key, range, signal) => {
      const blob = await (await responses.match(ADDRESS + key))?.blob();
      return blob === undefined ? undefined : await readBlob(blob, range, signal);
    },
    put: async (key, bytes, signal) => {
      signal?.throwIfAborted();
      const headers = { [LENGTH]: String(bytes.byteLength) };
      await responses.put(ADDRESS + key, new Response(bytes as Uint8Array<ArrayBuffer>, { headers }));
    },
    list: async (prefix = '') => {
      const values: CacheValue[] = [];
      for (const request of await responses.keys()) {
        const key = request.url.slice(ADDRESS.length);
        if (!key.startsWith(prefix)) continue;
        const response = await responses.match(request);
        if (response !== undefined) values.push({ key, byteLength: Number(response.headers.get(LENGTH)) });
      }
      return values;
    },
    delete: async (key) => {
      await responses.delete(ADDRESS + key);
    },
  };
}

/** What both kinds do in the same way. */
const shared: Required<Pick<Cache, 'exclusive' | 'room'>> = {
  exclusive: async (key, body, signal) => {
    const locks = navigator.locks as LockManager | undefined;
    if (locks === undefined) return await body();
    const name = `${NAME}/${key}`;
    return await locks.request(name, signal === undefined ? {} : { signal }, body);
  },
  room: async () => {
    const { quota, usage } = await navigator.storage.estimate();
    return quota === undefined || usage === undefined ? undefined : Math.max(0, quota - usage);
  },
};

async function readBlob(
  blob: Blob,
  range: ByteRange | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  signal?.throwIfAborted();
  const { start, end } = range ?? { start: 0, end: blob.size };
  if (end > blob.size) return undefined;
  try {
    return new Uint8Array(await blob.slice(start, end).arrayBuffer());
  } catch (error) {
    // Replaced or removed while it was read.
    return undefinedIfMissing(error);
  }
}

function undefinedIfMissing(error: unknown): undefined {
  const name = error instanceof Error ? error.name : '';
  if (name === 'NotFoundError' || name === 'TypeMismatchError' || name === 'NotReadableError') return undefined;
  throw error;
}
