import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ArgumentError, WeightFormatError } from '@mambalab/kernels';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFolder } from '../../../packages/models/src/index.ts';
import { openFolder as openNode } from '../../../packages/models/src/node.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import type { Folder } from '../../../packages/models/src/weights/source.ts';
import { convertGolden, goldenGguf } from '../../support/gguf_models.ts';
import type { GgufData } from '../../support/gguf_writer.ts';
import { writeGguf } from '../../support/gguf_writer.ts';

const llama = await goldenGguf('llama');

/** The parts of a model, as files of a folder. */
async function parts(): Promise<ReadonlyMap<string, Uint8Array<ArrayBuffer>>> {
  const { fields, tensors } = await convertGolden('llama');
  const part = (index: number, held: readonly GgufData[]): Uint8Array<ArrayBuffer> =>
    writeGguf({ ...(index === 0 && fields), 'split.no': index, 'split.count': 2 }, held);
  return new Map([
    ['p-00001-of-00002.gguf', part(0, tensors.slice(0, 5))],
    ['p-00002-of-00002.gguf', part(1, tensors.slice(5))],
  ]);
}

/** Opens and closes; the family, and how many tensors there are. */
async function described(folder: Folder): Promise<readonly [unknown, number]> {
  const { config, source } = await openCheckpoint(folder);
  await source.dispose();
  return [Object(config).model_type, source.tensors.size];
}

describe('a .gguf address', () => {
  const requests: string[] = [];
  const files = new Map<string, Uint8Array>([['a b.gguf', llama]]);
  const server = createServer((request, response) => {
    requests.push(request.url ?? '');
    const name = decodeURIComponent(new URL(request.url ?? '', 'http://host').pathname.replace('/models/', ''));
    const bytes = files.get(name);
    const [, from = '0', to = '0'] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (bytes === undefined) response.writeHead(404).end();
    else {
      const part = bytes.subarray(Number(from), Number(to) + 1);
      const range = `bytes ${from}-${Number(from) + part.byteLength - 1}/${bytes.byteLength}`;
      response.writeHead(206, { 'content-range': range }).end(part);
    }
  });
  let address = '';
  beforeAll(async () => {
    for (const [name, bytes] of await parts()) files.set(name, bytes);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/models`;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('is one file, whose query is kept, and nothing else is asked for', async () => {
    requests.length = 0;
    expect(await described(await openNode(`${address}/a%20b.gguf?key=1`))).toEqual(['llama', 30]);
    expect(new Set(requests)).toEqual(new Set(['/models/a%20b.gguf?key=1']));
    expect(await described(await openFolder(new URL(`${address}/a%20b.gguf`)))).toEqual(['llama', 30]);
  });

  it('of one part is all parts', async () => {
    expect(await described(await openFolder(`${address}/p-00002-of-00002.gguf`))).toEqual(['llama', 30]);
  });

  it('of nothing is an error that names it', async () => {
    const error: unknown = await described(await openFolder(`${address}/c.gguf`)).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(String(error)).toContain(`There is no c.gguf in ${address}/`);
  });
});

describe('a .gguf file', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mambalab-'));
    await writeFile(join(folder, 'a.gguf'), llama);
    await writeFile(join(folder, 'config.json'), '{"model_type":"of another"}');
    for (const [name, bytes] of await parts()) await writeFile(join(folder, name), bytes);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('on disk is opened by path or file URL, whatever stands beside it', async () => {
    expect(await described(await openNode(join(folder, 'a.gguf')))).toEqual(['llama', 30]);
    expect(await described(await openNode(pathToFileURL(join(folder, 'a.gguf'))))).toEqual(['llama', 30]);
    expect(await described(await openNode(join(folder, 'p-00001-of-00002.gguf')))).toEqual(['llama', 30]);
    await expect(described(await openNode(join(folder, 'b.gguf')))).rejects.toThrow(/There is no b.gguf/);
    await expect(openNode(join(folder, 'no', 'b.gguf'))).rejects.toThrow(ArgumentError);
  });

  it('that a user chose is opened alone or among others', async () => {
    const file = new File([llama], 'a.gguf');
    expect(await described(await openFolder(file))).toEqual(['llama', 30]);
    expect(await described(await openFolder([file, new File(['x'], 'README.md')]))).toEqual(['llama', 30]);
    const both = [...(await parts())].map(([name, bytes]) => new File([bytes], name));
    expect(await described(await openFolder(both))).toEqual(['llama', 30]);
  });
});
