import { open, readFile, readdir, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ArgumentError, WeightFormatError } from '@mambalab/kernels';
import { isPlainFileName } from './folder.ts';
import type { ByteFile, Folder } from './source.ts';

/** Node refuses reads of 2 GiB and more. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * A folder on disk (Node only). Files are read by position and stay open until `dispose`.
 *
 * @throws ArgumentError if `path` is no folder.
 */
export async function openNodeFolder(path: string): Promise<Folder> {
  const status = await stat(path).catch(undefinedIfMissing);
  if (status === undefined || !status.isDirectory()) {
    throw new ArgumentError(
      status === undefined ? `There is no folder ${path}.` : `${path} is a file, expected a folder.`,
      'Give the path of a folder that holds config.json and *.safetensors.',
    );
  }
  const open = new Map<string, Promise<NodeFile | undefined>>();
  return {
    label: path,
    list: async () => {
      const entries = await readdir(path, { withFileTypes: true });
      // Links count as files: download caches keep the files elsewhere and link to them.
      return entries.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map((entry) => entry.name);
    },
    file: (name) => {
      const known = open.get(name) ?? NodeFile.open(path, name);
      open.set(name, known);
      return known;
    },
    readText: async (name, signal) => {
      if (!isPlainFileName(name)) return undefined;
      return await readFile(join(path, name), { encoding: 'utf8', signal }).catch(undefinedIfMissing);
    },
    dispose: async () => {
      const files = await Promise.allSettled(open.values());
      open.clear();
      await Promise.all(files.map((file) => (file.status === 'fulfilled' ? file.value?.close() : undefined)));
    },
  };
}

class NodeFile implements ByteFile {
  readonly name: string;
  readonly #path: string;
  readonly #handle: FileHandle;

  private constructor(folder: string, name: string, handle: FileHandle) {
    this.name = name;
    this.#path = resolve(folder, name);
    this.#handle = handle;
  }

  static async open(folder: string, name: string): Promise<NodeFile | undefined> {
    if (!isPlainFileName(name)) return undefined;
    const handle = await open(join(folder, name), 'r').catch(undefinedIfMissing);
    if (handle === undefined) return undefined;
    if ((await handle.stat()).isFile()) return new NodeFile(folder, name, handle);
    await handle.close();
    return undefined;
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async identity(): Promise<string> {
    const { size, mtimeNs } = await this.#handle.stat({ bigint: true });
    return `${this.#path} ${size} ${mtimeNs}`;
  }

  async read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(end - start);
    let filled = 0;
    while (filled < bytes.byteLength) {
      signal?.throwIfAborted();
      const length = Math.min(bytes.byteLength - filled, MAX_READ_BYTES);
      const { bytesRead } = await this.#handle.read(bytes, filled, length, start + filled);
      if (bytesRead === 0) {
        throw new WeightFormatError(
          `${this.name} ends at byte ${start + filled}, expected bytes up to ${end}.`,
          'The file was cut short, or changed while it was read: download or export it again.',
        );
      }
      filled += bytesRead;
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function undefinedIfMissing(error: unknown): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  // EISDIR: a folder of that name is not a file of that name.
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return undefined;
  throw error;
}
