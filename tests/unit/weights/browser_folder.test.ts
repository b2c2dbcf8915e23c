import { WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openBrowserFolder } from '../../../packages/models/src/weights/browser_folder.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { weightFile } from './fixtures.ts';

const weights = new Uint8Array(weightFile({ a: [1, 2] }));

function pickedFile(path: string, content: BlobPart): File {
  const file = new File([content], path.split('/').at(-1) ?? path);
  // Browsers set this for files of a picked folder.
  Object.defineProperty(file, 'webkitRelativePath', { value: path.includes('/') ? path : '' });
  return file;
}

type Tree = { [name: string]: File | Tree };

/** As much of a directory handle as the folder uses. */
function directoryHandle(name: string, tree: Tree): FileSystemDirectoryHandle {
  const find = (key: string, isFile: boolean): File | Tree => {
    const entry = tree[key];
    if (entry === undefined) throw new DOMException('not there', 'NotFoundError');
    if (entry instanceof File !== isFile) throw new DOMException('another kind', 'TypeMismatchError');
    return entry;
  };
  const handle = {
    name,
    kind: 'directory',
    getFileHandle: async (key: string) => {
      const file = find(key, true);
      return { getFile: async () => file };
    },
    getDirectoryHandle: async (key: string) => directoryHandle(key, find(key, false) as Tree),
    entries: async function* () {
      for (const [key, entry] of Object.entries(tree)) {
        yield [key, { kind: entry instanceof File ? 'file' : 'directory' }];
      }
    },
  };
  return handle as unknown as FileSystemDirectoryHandle;
}

describe('openBrowserFolder', () => {
  it.each([
    ['files', [pickedFile('config.json', '{}'), pickedFile('model.safetensors', weights)]],
    ['a picked folder', [pickedFile('mine/config.json', '{}'), pickedFile('mine/model.safetensors', weights)]],
    [
      'a directory handle',
      directoryHandle('mine', {
        'config.json': new File(['{}'], 'config.json'),
        'model.safetensors': new File([weights], 'model.safetensors'),
        sub: {},
      }),
    ],
  ])('opens a checkpoint of %s', async (_what, picked) => {
    const folder = openBrowserFolder(picked);
    const { config, source } = await openCheckpoint(folder);
    expect(config).toEqual({});
    expect([...new Float32Array((await source.read('a')).buffer)]).toEqual([1, 2]);
    expect(new Set(await folder.list?.())).toEqual(new Set(['config.json', 'model.safetensors']));
    expect(await folder.file('none')).toBeUndefined();
    expect(await folder.file('sub')).toBeUndefined();
    expect(await folder.file('../config.json')).toBeUndefined();
  });

  it('finds files in folders inside', async () => {
    const sub = { 'a.txt': new File(['inside'], 'a.txt') };
    expect(await openBrowserFolder(directoryHandle('mine', { sub })).readText('sub/a.txt')).toBe('inside');
    expect(await openBrowserFolder([pickedFile('mine/sub/a.txt', 'inside')]).readText('sub/a.txt')).toBe('inside');
  });

  it('says so where a file is shorter than it was', async () => {
    const file = await openBrowserFolder([pickedFile('a', 'abc')]).file('a');
    expect(await file?.size()).toBe(3);
    await expect(file?.read(1, 4)).rejects.toThrow(WeightFormatError);
    await expect(file?.read(1, 2, AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
  });
});
