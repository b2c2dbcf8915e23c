import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, rmdir, stat, statfs } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { ArgumentError } from '@mambalab/kernels';
import type { ByteRange, Cache, CacheValue } from './cache.ts';

/** Names of files that are being written. */
const TEMPORARY = '.part-';
/** A file that was being written this long ago belongs to a process that has ended. */
const ABANDONED_MS = 24 * 3600 * 1000;

/**
 * The folder where downloads are kept: `MAMBALAB_CACHE`, or what the platform has for that: `$XDG_CACHE_HOME/mambalab`
 * or `~/.cache/mambalab`, `~/Library/Caches/mambalab` on macOS, `%LOCALAPPDATA%\mambalab` on Windows.
 */
export function cacheFolder(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: string = process.platform,
  home: string = homedir(),
): string {
  const { MAMBALAB_CACHE: own, XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = env;
  if (own !== undefined && own !== '') return own;
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'mambalab');
  if (platform === 'win32') return join(local || join(home, 'AppData', 'Local'), 'mambalab');
  return join(xdg || join(home, '.cache'), 'mambalab');
}

/**
 * A cache in a folder (Node only). A value is one file, which appears under its name when it is whole: several
 * processes may use the folder at once.
 *
 * @param folder made when something is stored; see {@link cacheFolder} for the one that is used when absent
 */
export function openNodeCache(folder: string = cacheFolder()): Cache {
  const pathOf = (key: string): string => join(folder, ...key.split('/'));
  return {
    get: (key, range, signal) => readValue(pathOf(key), range, signal),
    fill: (key, target, signal) => fillFrom(pathOf(key), target, signal),
    put: (key, bytes, signal) => writeValue(folder, pathOf(key), bytes, signal),
    list: async (prefix = '') => {
      // A prefix need not end with a name.
      const start = prefix.slice(0, prefix.lastIndexOf('/') + 1);
      const values = await listValues(pathOf(start), folder);
      return values.filter(({ key }) => key.startsWith(prefix));
    },
    delete: async (key) => {
      await rm(pathOf(key), { force: true });
      await removeEmpty(dirname(pathOf(key)), folder);
    },
    room: () => roomAt(folder),
  };
}

async function readValue(
  path: string,
  range: ByteRange | undefined,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  signal?.throwIfAborted();
  const handle = await open(path, 'r').catch(undefinedIfMissing);
  if (handle === undefined) return undefined;
  try {
    const { start, end } = range ?? { start: 0, end: (await handle.stat()).size };
    const bytes = new Uint8Array(end - start);
    return (await fill(handle, bytes, start)) ? bytes : undefined;
  } finally {
    await handle.close();
  }
}

async function fillFrom(path: string, target: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
  signal?.throwIfAborted();
  const handle = await open(path, 'r').catch(undefinedIfMissing);
  if (handle === undefined) return false;
  try {
    return await fill(handle, target, 0);
  } finally {
    await handle.close();
  }
}

/** Fills `bytes` from byte `start` of a file on. False if it ends before that. */
async function fill(handle: FileHandle, bytes: Uint8Array, start: number): Promise<boolean> {
  let filled = 0;
  while (filled < bytes.byteLength) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.byteLength - filled, start + filled);
    if (bytesRead === 0) return false;
    filled += bytesRead;
  }
  return true;
}

async function writeValue(
  folder: string,
  path: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  const temporary = join(dirname(path), `${TEMPORARY}${randomUUID()}`);
  try {
    const handle = await create(temporary);
    try {
      await handle.writeFile(bytes);
      // On the disk before it has its name: after a power cut, a name stands for all the bytes.
      await handle.datasync();
    } finally {
      await handle.close();
    }
    signal?.throwIfAborted();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw isRefusal(error) ? refused(folder, error) : error;
  }
}

async function create(path: string): Promise<FileHandle> {
  await mkdir(dirname(path), { recursive: true });
  const handle = await open(path, 'wx').catch(undefinedIfMissing);
  if (handle !== undefined) return handle;
  // Another process removed the folder while it was empty.
  await mkdir(dirname(path), { recursive: true });
  return await open(path, 'wx');
}

async function listValues(path: string, folder: string): Promise<CacheValue[]> {
  const entries = (await readdir(path, { withFileTypes: true, recursive: true }).catch(undefinedIfMissing)) ?? [];
  const values: CacheValue[] = [];
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    // Another process may have removed or renamed it since.
    const status = await stat(file).catch(undefinedIfMissing);
    if (status === undefined) continue;
    if (!entry.name.startsWith(TEMPORARY)) {
      values.push({ key: relative(folder, file).split(sep).join('/'), byteLength: status.size });
    } else if (Date.now() - status.mtimeMs > ABANDONED_MS) {
      await rm(file, { force: true });
    }
  }
  return values;
}

/** Removes a folder and those around it as long as they are empty. */
async function removeEmpty(path: string, folder: string): Promise<void> {
  for (let at = path; at.startsWith(folder) && at !== folder; at = dirname(at)) {
    const isRemoved = await rmdir(at).then(
      () => true,
      () => false,
    );
    if (!isRemoved) return;
  }
}

async function roomAt(folder: string): Promise<number | undefined> {
  for (let at = folder; ; at = dirname(at)) {
    const space = await statfs(at).catch(undefinedIfMissing);
    if (space !== undefined) return space.bavail * space.bsize;
    if (dirname(at) === at) return undefined;
  }
}

function refused(folder: string, cause: unknown): ArgumentError {
  return new ArgumentError(
    `Nothing can be stored in the cache folder ${folder}.`,
    'Name another one in the environment variable MAMBALAB_CACHE, or load with `cache: false`.',
    { cause },
  );
}

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

const isRefusal = (error: unknown): boolean =>
  ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(String(codeOf(error)));

function undefinedIfMissing(error: unknown): undefined {
  if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
  throw error;
}
