import { WeightFormatError } from '@mambalab/kernels';
import { isPlainFileName } from './folder.ts';
import type { ByteFile, Folder } from './source.ts';

/**
 * A folder that the user gave to a page: a file, the files of an `<input type="file">` (with `multiple` or `webkitdirectory`)
 * or of a drop, or a directory handle of the File System Access API or of the origin's private file system.
 * For files, names are relative to the picked folder; of a directory handle, too.
 */
export function openBrowserFolder(source: File | FileList | readonly File[] | FileSystemDirectoryHandle): Folder {
  if (source instanceof File) return folderOfFiles([source]);
  return 'getFileHandle' in source ? folderOfHandle(source) : folderOfFiles(Array.from(source));
}

function folderOfFiles(files: readonly File[]): Folder {
  const byName = new Map(files.map((file) => [nameInFolder(file), file]));
  const [root] = files[0]?.webkitRelativePath?.split('/') ?? [];
  return makeFolder(
    root || 'the chosen files',
    () => Promise.resolve([...byName.keys()]),
    (name) => Promise.resolve(byName.get(name)),
  );
}

/** `webkitRelativePath` begins with the picked folder's own name; it is empty for files picked one by one. */
function nameInFolder(file: File): string {
  const path = file.webkitRelativePath ?? '';
  const slash = path.indexOf('/');
  return slash < 0 ? file.name : path.slice(slash + 1);
}

function folderOfHandle(root: FileSystemDirectoryHandle): Folder {
  const list = async (): Promise<string[]> => {
    const names: string[] = [];
    for await (const [name, entry] of root.entries()) if (entry.kind === 'file') names.push(name);
    return names;
  };
  const find = async (name: string): Promise<File | undefined> => {
    if (!isPlainFileName(name)) return undefined;
    const parts = name.split('/');
    const last = parts.pop() ?? name;
    try {
      let folder = root;
      for (const part of parts) folder = await folder.getDirectoryHandle(part);
      return await (await folder.getFileHandle(last)).getFile();
    } catch (error) {
      const kind = error instanceof Error ? error.name : '';
      if (kind === 'NotFoundError' || kind === 'TypeMismatchError') return undefined;
      throw error;
    }
  };
  return makeFolder(root.name, list, find);
}

function makeFolder(
  label: string,
  list: () => Promise<readonly string[]>,
  find: (name: string) => Promise<File | undefined>,
): Folder {
  return {
    label,
    list,
    file: async (name) => {
      const file = await find(name);
      return file === undefined ? undefined : new BrowserFile(name, file);
    },
    readText: async (name) => await (await find(name))?.text(),
    dispose: () => Promise.resolve(),
  };
}

class BrowserFile implements ByteFile {
  readonly name: string;
  readonly #file: File;

  constructor(name: string, file: File) {
    this.name = name;
    this.#file = file;
  }

  size(): Promise<number> {
    return Promise.resolve(this.#file.size);
  }

  identity(): Promise<string> {
    const { size, lastModified } = this.#file;
    return Promise.resolve(`${this.name} ${size} ${lastModified}`);
  }

  async read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted();
    const bytes = new Uint8Array(await this.#file.slice(start, end).arrayBuffer());
    signal?.throwIfAborted();
    if (bytes.byteLength !== end - start) {
      throw new WeightFormatError(
        `${this.name} ends at byte ${start + bytes.byteLength}, expected bytes up to ${end}.`,
        'The file was cut short, or changed while it was read: choose it again.',
      );
    }
    return bytes;
  }
}
