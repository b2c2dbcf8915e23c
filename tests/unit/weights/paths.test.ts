import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WeightFormatError } from '@mambalab/kernels';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBrowserFolder } from '../../../packages/models/src/weights/browser_folder.ts';
import { openWeights } from '../../../packages/models/src/weights/folder.ts';
import { openHttpFolder } from '../../../packages/models/src/weights/http_folder.ts';
import { openHubFolder } from '../../../packages/models/src/weights/hub_folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import type { Folder } from '../../../packages/models/src/weights/source.ts';
import type { TestServer } from '../../support/http_server.ts';
import { serveFiles } from '../../support/http_server.ts';
import { weightFile } from './fixtures.ts';

// The file that lies beside the folder of a checkpoint, and that no index may reach.

const INDEX = 'model.safetensors.index.json';
const SECRET = 'secret.safetensors';
const secret = new Uint8Array(weightFile({ a: [42] }));

/** Names of the file by every way that an index could try. */
const ESCAPES = [
  `../${SECRET}`,
  `sub/../../${SECRET}`,
  `./../${SECRET}`,
  `sub/./../../${SECRET}`,
  `..\\${SECRET}`,
  `sub\\..\\..\\${SECRET}`,
  `%2e%2e/${SECRET}`,
  `%2E%2E%2F${SECRET}`,
  `..%2f${SECRET}`,
  `..%5c${SECRET}`,
  `%252e%252e/${SECRET}`,
  `//${SECRET}`,
  `/${SECRET}`,
  `/etc/${SECRET}`,
  `C:\\${SECRET}`,
  `C:${SECRET}`,
  `file:///${SECRET}`,
  `https://example.org/${SECRET}`,
  `\\\\host\\share\\${SECRET}`,
  `..\0/${SECRET}`,
  `..\n/${SECRET}`,
  `x?/../../${SECRET}`,
  `x#/../../${SECRET}`,
  `.../../../${SECRET}`,
];

const indexOf = (file: string): string => JSON.stringify({ weight_map: { a: file } });

let place = '';
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'mambalab-'));
  await mkdir(join(place, 'model', 'sub'), { recursive: true });
  await writeFile(join(place, SECRET), secret);
});
afterAll(() => rm(place, { recursive: true, force: true }));

async function serveModel(prefix: string, file: string): Promise<TestServer> {
  return await serveFiles({
    [`${prefix}config.json`]: '{}',
    [`${prefix}${INDEX}`]: indexOf(file),
    [`/${SECRET}`]: secret,
    [`/o/${SECRET}`]: secret,
  });
}

/** Each kind of folder with an index that names `file`, and what was asked for of it. */
const FOLDERS: Readonly<Record<string, (file: string) => Promise<{ folder: Folder; asked: () => string[] }>>> = {
  'a folder of Node': async (file) => {
    await writeFile(join(place, 'model', INDEX), indexOf(file));
    return { folder: await openNodeFolder(join(place, 'model')), asked: () => [] };
  },
  'a folder behind HTTP': async (file) => {
    const server = await serveModel('/o/model/', file);
    return { folder: openHttpFolder(`${server.url}/o/model/`), asked: server.lines };
  },
  'the hub': async (file) => {
    const server = await serveModel('/o/model/resolve/main/', file);
    return { folder: openHubFolder('o/model', { endpoint: server.url }), asked: server.lines };
  },
  'files of a page': (file) => {
    const index = new File([indexOf(file)], INDEX);
    return Promise.resolve({ folder: openBrowserFolder([index, new File([secret], SECRET)]), asked: () => [] });
  },
};

describe.each(Object.entries(FOLDERS))('an index in %s', (_kind, open) => {
  it.each(ESCAPES)('does not reach %j', async (file) => {
    const { folder, asked } = await open(file);
    try {
      await expect(openWeights(folder)).rejects.toThrow(WeightFormatError);
      expect(asked().filter((line) => line.includes('secret'))).toEqual([]);
      // Nor does the folder itself hand it out.
      await expect(folder.file(file)).resolves.toBeUndefined();
      await expect(folder.readText(file)).resolves.toBeUndefined();
    } finally {
      await folder.dispose();
    }
  });
});
