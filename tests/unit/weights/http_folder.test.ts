import { ArgumentError, IntegrityError, NetworkError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openHttpFolder } from '../../../packages/models/src/weights/http_folder.ts';
import type { Fault, TestServer } from '../../support/http_server.ts';
import { patternBytes, serveFiles } from '../../support/http_server.ts';
import { weightFile } from './fixtures.ts';

const MIB = 2 ** 20;
const large = patternBytes(200_000);
/** Three segments and a part. */
const huge = patternBytes(26 * MIB);

/** One file `/model/a`, or what the fault makes of it; a number is a status. */
function serve(bytes: Uint8Array | string, ...faults: readonly (Fault | undefined)[]): Promise<TestServer> {
  return serveFiles({ '/model/a': bytes }, (_request, index) => faults[index]);
}

/** Comparing millions of bytes one by one takes a test framework minutes. */
const isSame = (bytes: Uint8Array | undefined, expected: Uint8Array): boolean =>
  Buffer.compare(bytes ?? new Uint8Array(), expected) === 0;

const ranges = ({ requests }: TestServer): string[] => requests.map(({ range }) => range);

describe('openHttpFolder', () => {
  it('opens a checkpoint with one request a file', async () => {
    const server = await serveFiles({
      '/model/config.json': '{"model_type": "mamba"}',
      '/model/model.safetensors': weightFile({ a: [1, 2, 3] }),
    });
    const { config, source, tokenizerJson } = await openCheckpoint(openHttpFolder(`${server.url}/model?key=1`));
    expect(config).toEqual({ model_type: 'mamba' });
    expect(tokenizerJson).toBeUndefined();
    expect([...new Float32Array((await source.read('a', 4)).buffer)]).toEqual([2, 3]);
    expect(server.lines().filter((line) => line.includes('safetensors'))).toHaveLength(1);
  });

  it('reads ranges, and nothing for what is at hand', async () => {
    const server = await serveFiles({ '/model/sub dir/a.bin': large });
    const file = await openHttpFolder(`${server.url}/model/`).file('sub dir/a.bin');
    expect(await file?.size()).toBe(large.byteLength);
    expect(await file?.read(10, 20)).toEqual(large.slice(10, 20));
    expect(await file?.read(199_000, 200_000)).toEqual(large.slice(199_000));
    expect(await file?.read(150_000, 150_000)).toHaveLength(0);
    expect(server.lines()).toEqual(['GET /model/sub dir/a.bin 0-65535', 'GET /model/sub dir/a.bin 199000-199999']);
    await expect(file?.read(199_999, 200_001)).rejects.toThrow(WeightFormatError);
  });

  it('sends the headers that it is given, and to no other host', async () => {
    const other = await serve('text');
    const server = await serveFiles({ '/model/a': 'text' }, ({ headers, path }) => {
      if (headers.authorization !== 'Bearer t') return { status: 401 };
      return path === '/model/moved' ? { redirect: `${other.url}/model/a` } : undefined;
    });
    const headers = { authorization: 'Bearer t' };
    const url = `${server.url}/model`;
    expect(await openHttpFolder(url, { headers }).readText('a')).toBe('text');
    await expect(openHttpFolder(url).readText('a')).rejects.toThrow(/status 401\..*token/);
    for (const redirects of ['follow', 'manual'] as const) {
      expect(await openHttpFolder(url, { headers, redirects }).readText('moved')).toBe('text');
    }
    expect(other.requests.map((request) => request.headers.authorization)).toEqual([undefined, undefined]);
  });

  it('asks the address that it was sent to, and the first one again when that one expires', async () => {
    let expired = false;
    const other = await serveFiles({ '/a': large }, () => (expired ? { status: 403 } : undefined));
    const server = await serveFiles({}, () => {
      expired = false;
      return { redirect: `${other.url}/a` };
    });
    const file = await openHttpFolder(`${server.url}/model`, { redirects: 'manual' }).file('a');
    expect(await file?.read(100_000, 100_010)).toEqual(large.slice(100_000, 100_010));
    expect([server.requests.length, other.requests.length]).toEqual([1, 2]);
    expired = true;
    expect(await file?.read(100_000, 100_010)).toEqual(large.slice(100_000, 100_010));
    expect([server.requests.length, other.requests.length]).toEqual([2, 4]);
  });

  it.each([
    ['to no address', 'http://'],
    ['to another protocol', 'file:///etc/hosts'],
    ['in circles', '/model/a'],
  ])('does not follow a redirect %s', async (_what, redirect) => {
    const server = await serveFiles({}, () => ({ redirect }));
    const folder = openHttpFolder(`${server.url}/model`, { redirects: 'manual' });
    await expect(folder.readText('a')).rejects.toThrow(/redirects/);
    expect(server.requests.length).toBeLessThan(12);
  });

  it('keeps a small file whole where the server ignores ranges', async () => {
    const server = await serve(large, { ignoreRange: true, chunked: true });
    const file = await openHttpFolder(`${server.url}/model`).file('a');
    expect(await file?.size()).toBe(large.byteLength);
    expect(await file?.read(150_000, 160_000)).toEqual(large.slice(150_000, 160_000));
    expect(server.requests).toHaveLength(1);
  });

  it('refuses a large file whole, where the server does not announce its length', async () => {
    const server = await serve(new Uint8Array(65 * MIB), { ignoreRange: true, chunked: true });
    await expect(openHttpFolder(`${server.url}/model`).file('a')).rejects.toThrow(WeightFormatError);
  });

  it('learns the size by HEAD where Content-Range is hidden', async () => {
    const server = await serveFiles({ '/model/a': large }, ({ method }) =>
      method === 'HEAD' ? undefined : { headers: { 'content-range': 'hidden' } },
    );
    expect(await (await openHttpFolder(`${server.url}/model`).file('a'))?.size()).toBe(200_000);
    expect(server.lines()).toEqual(['GET /model/a 0-65535', 'HEAD /model/a']);
  });

  it('knows an empty file', async () => {
    const server = await serve('');
    const folder = openHttpFolder(`${server.url}/model`);
    expect(await (await folder.file('a'))?.size()).toBe(0);
    expect(await folder.readText('a')).toBe('');
  });

  it('tries again after errors of the server and the network', async () => {
    const server = await serve('text', { status: 503 }, { breakAfter: 0 }, { breakAfter: 2 });
    expect(await openHttpFolder(`${server.url}/model`, { backoffMs: 1 }).readText('a')).toBe('text');
    expect(server.requests).toHaveLength(4);
  });

  it('gives up after three repetitions, and at once where repeating is of no use', async () => {
    const server = await serveFiles({}, ({ path }) => ({ status: path === '/model/broken' ? 500 : 403 }));
    const folder = openHttpFolder(`${server.url}/model`, { backoffMs: 1 });
    const broken = folder.readText('broken');
    await expect(broken).rejects.toThrow(NetworkError);
    await expect(broken).rejects.toThrow(/status 500 \(after 4 attempts\)/);
    await expect(folder.file('secret')).rejects.toThrow(ArgumentError);
    expect(server.requests).toHaveLength(5);
    await server.close();
    const unreachable = openHttpFolder(`${server.url}/model`, { retries: 0 }).readText('a');
    await expect(unreachable).rejects.toThrow(NetworkError);
    await expect(unreachable).rejects.toThrow(/could not be reached/);
  });

  it('waits as long as the server asks, and does not wait for a minute and more', async () => {
    const server = await serve('text', { status: 429, headers: { 'retry-after': '1' } });
    const started = performance.now();
    expect(await openHttpFolder(`${server.url}/model`, { backoffMs: 1 }).readText('a')).toBe('text');
    expect(performance.now() - started).toBeGreaterThan(950);
    const date = new Date(Date.now() + 300_000).toUTCString();
    const busy = await serve('text', { status: 503, headers: { 'retry-after': date } });
    const reading = openHttpFolder(`${busy.url}/model`).readText('a');
    await expect(reading).rejects.toThrow(NetworkError);
    await expect(reading).rejects.toThrow(/asks to wait \d+ s/);
    expect(busy.requests).toHaveLength(1);
  });

  it('stops with the reason of its signal, also while it waits to try again', async () => {
    const server = await serveFiles({}, () => ({ status: 500 }));
    const reason = new Error('stop');
    const folder = openHttpFolder(`${server.url}/model`, { backoffMs: 60_000 });
    await expect(folder.readText('a', AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const reading = folder.readText('a', controller.signal);
    setTimeout(() => controller.abort(reason), 50);
    await expect(reading).rejects.toBe(reason);
  });

  it('refuses addresses that are none, and finds nothing outside the folder', async () => {
    expect(() => openHttpFolder('model')).toThrow(ArgumentError);
    expect(() => openHttpFolder('file:///model')).toThrow(ArgumentError);
    const server = await serve('text');
    expect(await openHttpFolder(`${server.url}/model`).file('../a')).toBeUndefined();
    expect(await openHttpFolder(`${server.url}/model`).readText('..')).toBeUndefined();
    expect(server.requests).toEqual([]);
  });
});

describe('a file that does not arrive in good order', () => {
  const first: undefined = undefined;

  it.each<[string, Fault, number]>([
    ['breaks off', { breakAfter: 70_000 }, 170_000],
    ['ends early', { endAfter: 70_000 }, 170_000],
    ['stalls', { stallAfter: 70_000 }, 170_000],
    ['fails', { status: 502 }, 100_000],
  ])('is asked for again from where it %s', async (_what, fault, from) => {
    const server = await serve(large, first, fault);
    const options = { backoffMs: 1, stallMs: 200 };
    const file = await openHttpFolder(`${server.url}/model`, options).file('a');
    expect(await file?.read(100_000, 200_000)).toEqual(large.slice(100_000));
    expect(ranges(server)).toEqual(['0-65535', '100000-199999', `${from}-199999`]);
  });

  it('may break off more often than it may fail, as long as bytes arrive', async () => {
    const faults = Array.from({ length: 8 }, () => ({ breakAfter: 10_000 }));
    const server = await serve(large, first, ...faults);
    const file = await openHttpFolder(`${server.url}/model`, { backoffMs: 1, retries: 1 }).file('a');
    expect(await file?.read(100_000, 200_000)).toEqual(large.slice(100_000));
    expect(server.requests).toHaveLength(10);
  });

  it('is given up where no more bytes come', async () => {
    const server = await serve(large, first, ...Array.from({ length: 4 }, () => ({ endAfter: 0 })));
    const file = await openHttpFolder(`${server.url}/model`, { backoffMs: 1 }).file('a');
    await expect(file?.read(100_000, 200_000)).rejects.toThrow(/ended at byte 100000.*after 4 attempts/);
    expect(server.requests).toHaveLength(5);
  });

  it.each<[string, Fault, abstract new (...args: never[]) => Error]>([
    ['another ETag', { etag: '"2"' }, IntegrityError],
    ['another size', { bytes: large.slice(0, 150_000), etag: '' }, IntegrityError],
    ['nothing any more', { status: 404 }, IntegrityError],
    ['another range', { headers: { 'content-range': 'bytes 0-99999/200000' } }, WeightFormatError],
    ['too much', { excess: new Uint8Array(9) }, WeightFormatError],
  ])('is refused where the server sends %s', async (_what, fault, kind) => {
    const server = await serve(large, first, fault);
    const file = await openHttpFolder(`${server.url}/model`, { backoffMs: 1 }).file('a');
    await expect(file?.read(100_000, 200_000)).rejects.toThrow(kind);
    expect(server.requests).toHaveLength(2);
  });
});

describe('streaming', () => {
  /** Reads a file in order by parts of 5 MiB, as the tensors of a model are. */
  async function readInOrder(server: TestServer, options = {}): Promise<boolean> {
    const folder = openHttpFolder(`${server.url}/model`, { backoffMs: 1, ...options });
    const file = await folder.file('a');
    await folder.beginStreaming?.();
    let same = true;
    for (let at = 0; at < huge.byteLength; at += 5 * MIB) {
      const end = Math.min(at + 5 * MIB, huge.byteLength);
      const bytes = await file?.read(at, end);
      same &&= isSame(bytes, huge.subarray(at, end));
    }
    await folder.endStreaming?.();
    await folder.dispose();
    return same;
  }

  it('asks for each segment once, and tells how far it is', async () => {
    const server = await serve(huge);
    const seen: number[] = [];
    const onDownload = ({
      file,
      loadedBytes,
      totalBytes,
    }: {
      file: string;
      loadedBytes: number;
      totalBytes: number;
    }) => {
      expect([file, totalBytes]).toEqual(['a', huge.byteLength]);
      seen.push(loadedBytes);
    };
    expect(await readInOrder(server, { onDownload })).toBe(true);
    const segment = 8 * MIB;
    expect(ranges(server)).toEqual([
      '0-65535',
      `65536-${segment - 1}`,
      `${segment}-${2 * segment - 1}`,
      `${2 * segment}-${3 * segment - 1}`,
      `${3 * segment}-${huge.byteLength - 1}`,
    ]);
    expect(seen.toSorted((a, b) => a - b)).toEqual(seen);
    expect(seen.at(-1)).toBe(huge.byteLength);
    expect(seen.length).toBeGreaterThan(10);
  });

  it('has at most so many requests on their way as it may', async () => {
    for (const parallel of [2, 4]) {
      let open = 0;
      let most = 0;
      const counting: typeof fetch = async (...request) => {
        most = Math.max(most, ++open);
        const response = await fetch(...request);
        const bytes = await response.arrayBuffer();
        open -= 1;
        return new Response(bytes, response);
      };
      const server = await serve(huge);
      const folder = openHttpFolder(`${server.url}/model`, { parallel, fetch: counting });
      const file = await folder.file('a');
      await folder.beginStreaming?.();
      expect(isSame(await file?.read(0, huge.byteLength), huge)).toBe(true);
      expect(most).toBe(Math.min(parallel, 4));
    }
  });

  it('reads a server without ranges from front to back, by one request', async () => {
    const server = await serveFiles({ '/model/a': huge }, () => ({ ignoreRange: true }));
    expect(await readInOrder(server)).toBe(true);
    expect(server.requests).toHaveLength(1);
  });

  it('begins anew where such a server breaks off, and refuses another file', async () => {
    const server = await serveFiles({ '/model/a': huge }, (_request, index) => ({
      ignoreRange: true,
      ...(index === 0 && { breakAfter: 12 * MIB }),
    }));
    expect(await readInOrder(server)).toBe(true);
    expect(server.requests).toHaveLength(2);
    const changing = await serveFiles({ '/model/a': huge }, (_request, index) => ({
      ignoreRange: true,
      ...(index === 0 ? { breakAfter: 12 * MIB } : { etag: '"2"' }),
    }));
    await expect(readInOrder(changing)).rejects.toThrow(IntegrityError);
  });

  it('refuses to read such a file back and forth', async () => {
    const server = await serveFiles({ '/model/a': huge }, () => ({ ignoreRange: true }));
    const file = await openHttpFolder(`${server.url}/model`).file('a');
    const readBackwards = async (): Promise<void> => {
      for (let at = 0; at < 8; at++) {
        const start = (at % 2 === 0 ? 25 : 0) * MIB;
        expect(await file?.read(start, start + 10)).toEqual(huge.slice(start, start + 10));
        // Segments in between push the first one out of memory.
        for (const other of [8, 16, 24]) await file?.read(other * MIB, other * MIB + 1);
      }
    };
    await expect(readBackwards()).rejects.toThrow(/ignores Range requests/);
    expect(server.requests.length).toBeLessThan(8);
  });

  it('ends what is on its way when the folder is closed', async () => {
    const server = await serveFiles({ '/model/a': huge }, (_request, index) => (index > 0 ? { stallAfter: 0 } : {}));
    const folder = openHttpFolder(`${server.url}/model`);
    const file = await folder.file('a');
    await folder.beginStreaming?.();
    const reading = file?.read(0, huge.byteLength).catch(String);
    await expect.poll(() => server.requests.length).toBeGreaterThan(1);
    await folder.dispose();
    expect(await reading).toMatch(/closed/);
  });
});
