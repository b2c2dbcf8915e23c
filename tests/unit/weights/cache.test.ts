import { createHash } from 'node:crypto';
import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArgumentError, IntegrityError, StorageQuotaError } from '@mambalab/kernels';
import type { Cache } from '@mambalab/models';
import { clearCache, listCache, openCache } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { createHash as createJavaScriptHash, SegmentHash } from '../../../packages/models/src/weights/content_hash.ts';
import { openHttpFolder } from '../../../packages/models/src/weights/http_folder.ts';
import { cacheFolder } from '../../../packages/models/src/weights/node_cache.ts';
import type { RemoteOptions } from '../../../packages/models/src/weights/remote_folder.ts';
import { memoryCache, temporaryFolder } from '../../support/caches.ts';
import type { Fault, SeenRequest, TestServer } from '../../support/http_server.ts';
import { patternBytes, serveFiles } from '../../support/http_server.ts';

const MIB = 2 ** 20;
/** Two segments and a part. */
const bytes = patternBytes(18 * MIB, 7);
const sha256 = createHash('sha256').update(bytes).digest('hex');

const serve = (fault?: (request: SeenRequest, index: number) => Fault | undefined): Promise<TestServer> =>
  serveFiles({ '/model/a': bytes }, fault);

const isSame = (found: Uint8Array | undefined): boolean => Buffer.compare(found ?? new Uint8Array(), bytes) === 0;

/** Loads the file as a model does: in parts, in order. Returns whether it got the right bytes. */
async function load(server: TestServer, options: RemoteOptions, signal?: AbortSignal): Promise<boolean> {
  const folder = openHttpFolder(`${server.url}/model`, { backoffMs: 1, ...options });
  try {
    const file = await folder.file('a', signal);
    await folder.beginStreaming?.(signal);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < bytes.byteLength; at += 5 * MIB) {
      const part = await file?.read(at, Math.min(at + 5 * MIB, bytes.byteLength), signal);
      parts.push(part ?? new Uint8Array());
    }
    await folder.endStreaming?.(signal);
    return isSame(Buffer.concat(parts));
  } finally {
    await folder.dispose();
  }
}

/** Names of all files below a folder. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe.each<[string, () => Promise<Cache>]>([
  ['in memory', () => Promise.resolve(memoryCache())],
  ['in a folder', async () => await openCache(await temporaryFolder())],
])('a cache %s', (_where, open) => {
  it('keeps values, and gives ranges of them', async () => {
    const cache = await open();
    expect(await cache.get('a/b')).toBeUndefined();
    expect(await cache.list()).toEqual([]);
    await cache.put('a/b', Uint8Array.of(1, 2, 3));
    await cache.put('a/bc', Uint8Array.of(4));
    await cache.put('a/b', Uint8Array.of(5, 6, 7, 8));
    expect(await cache.get('a/b')).toEqual(Uint8Array.of(5, 6, 7, 8));
    expect(await cache.get('a/b', { start: 1, end: 3 })).toEqual(Uint8Array.of(6, 7));
    expect(await cache.get('a/b', { start: 1, end: 5 })).toBeUndefined();
    expect(await cache.list('a/bc')).toEqual([{ key: 'a/bc', byteLength: 1 }]);
    expect((await cache.list('a/')).map(({ key }) => key).toSorted()).toEqual(['a/b', 'a/bc']);
    await cache.delete('a/b');
    await cache.delete('a/b');
    expect(await cache.get('a/b')).toBeUndefined();
    expect(await cache.list()).toEqual([{ key: 'a/bc', byteLength: 1 }]);
  });

  it('spares the second load all but a look at the ETag', async () => {
    const cache = await open();
    const server = await serve();
    const first: number[] = [];
    expect(await load(server, { cache, onDownload: ({ loadedBytes }) => first.push(loadedBytes) })).toBe(true);
    expect(first.at(-1)).toBe(bytes.byteLength);
    const before = server.requests.length;
    const second: number[] = [];
    expect(await load(server, { cache, onDownload: ({ loadedBytes }) => second.push(loadedBytes) })).toBe(true);
    expect(server.lines().slice(before)).toEqual(['GET /model/a 0-65535']);
    expect(second).toEqual([]);
    const source = `${server.url}/model/`;
    expect(await listCache(cache)).toEqual([
      {
        source,
        file: 'a',
        size: bytes.byteLength,
        storedBytes: bytes.byteLength,
        whole: true,
        prepared: false,
        key: expect.any(String),
      },
    ]);
    // Nor does it need the server.
    await server.close();
    expect(await load(server, { cache, retries: 0 })).toBe(true);
  });

  it('goes on with what an earlier load left', async () => {
    const cache = await open();
    const server = await serve((_request, index) => (index < 3 ? undefined : { status: 403 }));
    await expect(load(server, { cache, parallel: 1 })).rejects.toThrow(ArgumentError);
    const [left] = await listCache(cache);
    expect(left).toMatchObject({ storedBytes: 16 * MIB, size: 18 * MIB, whole: false });
    const again = await serveFiles({ '/model/a': bytes });
    // The same place, as far as the cache can tell.
    const at: typeof fetch = (url, init) => fetch(String(url).replace(server.url, again.url), init);
    const seen: number[] = [];
    const options = {
      cache,
      fetch: at,
      onDownload: ({ loadedBytes }: { loadedBytes: number }) => seen.push(loadedBytes),
    };
    expect(await load(server, options)).toBe(true);
    expect(again.lines()).toEqual(['GET /model/a 0-65535', `GET /model/a ${16 * MIB}-${18 * MIB - 1}`]);
    expect(seen[0]).toBeGreaterThan(16 * MIB);
    expect(seen.at(-1)).toBe(18 * MIB);
    expect(await listCache(cache)).toMatchObject([{ whole: true }]);
  });

  it('takes another ETag for another file', async () => {
    const cache = await open();
    const server = await serve((_request, index) => ({ etag: index < 4 ? '"1"' : '"2"' }));
    await load(server, { cache });
    await expect(load(server, { cache })).resolves.toBe(true);
    expect(await listCache(cache)).toHaveLength(2);
  });

  it('serves two loads at once', async () => {
    const cache = await open();
    const server = await serve(() => ({ slowMs: 1 }));
    const both = await Promise.all([load(server, { cache }), load(server, { cache })]);
    expect(both).toEqual([true, true]);
    expect(await listCache(cache)).toMatchObject([{ whole: true, storedBytes: bytes.byteLength }]);
    expect(await load(server, { cache })).toBe(true);
  });

  it('forgets one source, or all', async () => {
    const cache = await open();
    const server = await serve();
    const other = await serve();
    await load(server, { cache });
    await load(other, { cache });
    expect(await clearCache({ cache, source: 'none' })).toEqual([]);
    expect(await clearCache({ cache, source: `${server.url}/model/` })).toMatchObject([{ file: 'a' }]);
    expect(await listCache(cache)).toMatchObject([{ source: `${other.url}/model/` }]);
    expect((await cache.list('addresses/')).length).toBe(1);
    await clearCache({ cache });
    expect(await cache.list()).toEqual([]);
    expect(await load(other, { cache })).toBe(true);
  });

  it('loads what was removed or damaged again', async () => {
    const cache = await open();
    const server = await serve();
    await load(server, { cache });
    const segments = (await cache.list('files/')).filter(({ key }) => /\d{6}$/.test(key)).map(({ key }) => key);
    await cache.delete(segments[0] ?? '');
    await cache.put(segments[1] ?? '', new Uint8Array(5));
    expect(await load(server, { cache })).toBe(true);
    expect(await listCache(cache)).toMatchObject([{ storedBytes: bytes.byteLength }]);
  });
});

describe('the content of a file', () => {
  const named = (hash: string): Promise<TestServer> => serve(() => ({ headers: { 'x-linked-etag': hash } }));

  it('is found again by its SHA-256 under every address', async () => {
    const cache = memoryCache();
    const server = await named(sha256);
    expect(await load(server, { cache })).toBe(true);
    const mirror = await named(sha256);
    expect(await load(mirror, { cache })).toBe(true);
    expect(mirror.lines()).toEqual(['GET /model/a 0-65535']);
    expect(new TextDecoder().decode(cache.values.get(`files/sha256-${sha256}/whole`))).toContain('sha256');
  });

  it('is refused and forgotten where it is not what the server names', async () => {
    const cache = memoryCache();
    const server = await named('f'.repeat(64));
    const loading = load(server, { cache });
    await expect(loading).rejects.toThrow(IntegrityError);
    await expect(loading).rejects.toThrow(new RegExp(`has the SHA-256 ${sha256}; the server names ffff`));
    expect(await listCache(cache)).toEqual([]);
  });

  it('is checked also where the first part of it was here before', async () => {
    const cache = memoryCache();
    const server = await named(sha256);
    await cache.put(`files/sha256-${sha256}/000001`, bytes.slice(8 * MIB, 16 * MIB));
    expect(await load(server, { cache })).toBe(true);
    expect(await listCache(cache)).toMatchObject([{ whole: true }]);
    await clearCache({ cache });
    await cache.put(`files/sha256-${sha256}/000001`, new Uint8Array(8 * MIB));
    await expect(load(server, { cache })).rejects.toThrow(IntegrityError);
    expect(await load(server, { cache })).toBe(true);
  });

  it('is not kept where the server names neither hash nor ETag', async () => {
    const cache = memoryCache();
    const server = await serve(() => ({ etag: '' }));
    expect(await load(server, { cache })).toBe(true);
    expect(await listCache(cache)).toEqual([]);
  });

  it('is kept where a server ignores ranges, too', async () => {
    const cache = memoryCache();
    const server = await serve(() => ({ ignoreRange: true }));
    expect(await load(server, { cache })).toBe(true);
    expect(await load(server, { cache })).toBe(true);
    expect(await listCache(cache)).toMatchObject([{ whole: true }]);
  });

  it('is hashed in any nearly right order', () => {
    const hash = new SegmentHash(createJavaScriptHash());
    const parts = [bytes.subarray(0, 100), bytes.subarray(100, 150), bytes.subarray(150, 151)];
    for (const index of [2, 1, 1, 0, 0]) hash.add(index, parts[index] ?? new Uint8Array());
    expect(hash.next).toBe(3);
    expect(hash.digest()).toBe(createHash('sha256').update(bytes.subarray(0, 151)).digest('hex'));
    const lost = new SegmentHash(createJavaScriptHash());
    for (const index of [5, 4, 3, 2, 1, 0]) lost.add(index, new Uint8Array(1));
    expect(lost.next).toBe(1);
  });
});

describe('a cache without room', () => {
  /** A cache whose writes fail from the given one on. */
  function failing(failure: unknown, from: number): Cache {
    const cache = memoryCache();
    let writes = 0;
    return {
      ...cache,
      put: async (key, value) => {
        if (writes++ >= from) throw failure;
        await cache.put(key, value);
      },
    };
  }

  it.each<[string, unknown]>([
    ["the browser's error", new DOMException('full', 'QuotaExceededError')],
    ["the system's error", Object.assign(new Error('full'), { code: 'ENOSPC' })],
  ])('fails with what would help, for %s', async (_what, error) => {
    const server = await serve();
    for (const from of [0, 1, 3]) {
      const loading = load(server, { cache: failing(error, from) });
      await expect(loading).rejects.toThrow(StorageQuotaError);
      await expect(loading).rejects.toThrow(/at least \d+ bytes.*clearCache.*mambalab cache clear.*cache: false/);
    }
    await expect(load(server, { cache: failing(new Error('other'), 3) })).rejects.toThrow(/^other$/);
    expect(await load(server, {})).toBe(true);
  });

  it('says so before anything is downloaded, where it can tell', async () => {
    const server = await serve();
    const cache = { ...memoryCache(), room: () => Promise.resolve(10 * MIB) };
    const loading = load(server, { cache });
    await expect(loading).rejects.toThrow(StorageQuotaError);
    await expect(loading).rejects.toThrow(new RegExp(`room for ${10 * MIB} bytes.*needs ${18 * MIB}.*for ${8 * MIB}`));
    expect(server.requests).toHaveLength(1);
  });

  it('needs room only for what is missing', async () => {
    const server = await serve();
    const cache = memoryCache();
    await load(server, { cache });
    expect(await load(server, { cache: { ...cache, room: () => Promise.resolve(0) } })).toBe(true);
  });
});

describe('aborting a load', () => {
  it.each([
    ['at once', 0],
    ['at the first file', 1],
    ['while segments arrive', 3],
  ])('%s leaves nothing half done', async (_when, requests) => {
    const folder = await temporaryFolder();
    const cache = await openCache(folder);
    const reason = new Error('enough');
    const abort = new AbortController();
    const server = await serve((_request, index) => {
      if (index + 1 === requests) abort.abort(reason);
      return { slowMs: 1 };
    });
    if (requests === 0) abort.abort(reason);
    await expect(load(server, { cache }, abort.signal)).rejects.toBe(reason);
    for (const file of await filesBelow(folder)) expect(file).toMatch(/(about|\d{6}|addresses\/[0-9a-f]{64})$/);
    expect((await listCache(cache)).every(({ whole }) => !whole)).toBe(true);
    expect(await load(server, { cache })).toBe(true);
  });

  it('while a write is on its way leaves no lock and no part of a file', async () => {
    const folder = await temporaryFolder();
    const abort = new AbortController();
    const reason = new Error('enough');
    const own = await openCache(folder);
    const held = new Set<string>();
    const cache: Cache = {
      ...own,
      put: (key, value, signal) => {
        if (key.endsWith('000001')) abort.abort(reason);
        return own.put(key, value, signal);
      },
      exclusive: async (key, body) => {
        held.add(key);
        return await body().finally(() => held.delete(key));
      },
    };
    await expect(load(await serve(), { cache }, abort.signal)).rejects.toBe(reason);
    expect(held.size).toBe(0);
    expect((await filesBelow(folder)).filter((file) => !/(about|\d{6}|[0-9a-f]{64})$/.test(file))).toEqual([]);
    const segments = (await own.list('files/')).filter(({ key }) => /\d{6}$/.test(key));
    expect(segments.every(({ byteLength }) => byteLength === 8 * MIB || byteLength === 2 * MIB)).toBe(true);
  });
});

describe('the cache of Node', () => {
  it('is where the platform keeps such things, or where the environment says', () => {
    expect(cacheFolder({}, 'linux', '/home/u')).toBe(join('/home/u', '.cache', 'mambalab'));
    expect(cacheFolder({ XDG_CACHE_HOME: '/x' }, 'linux', '/home/u')).toBe(join('/x', 'mambalab'));
    expect(cacheFolder({}, 'darwin', '/Users/u')).toBe(join('/Users/u', 'Library', 'Caches', 'mambalab'));
    expect(cacheFolder({ LOCALAPPDATA: 'C:/l' }, 'win32', 'C:/u')).toBe(join('C:/l', 'mambalab'));
    expect(cacheFolder({}, 'win32', 'C:/u')).toBe(join('C:/u', 'AppData', 'Local', 'mambalab'));
    for (const platform of ['linux', 'darwin', 'win32']) {
      expect(cacheFolder({ MAMBALAB_CACHE: '/own', XDG_CACHE_HOME: '/x' }, platform, '/u')).toBe('/own');
    }
  });

  it('removes what a process left that has ended, and nothing younger', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'files', 'k'), { recursive: true });
    const [old, young] = [join(folder, 'files', 'k', '.part-old'), join(folder, 'files', 'k', '.part-young')];
    await writeFile(old, 'x');
    await writeFile(young, 'x');
    const yesterday = new Date(Date.now() - 25 * 3600 * 1000);
    await utimes(old, yesterday, yesterday);
    expect(await (await openCache(folder)).list()).toEqual([]);
    expect(await filesBelow(folder)).toEqual([young]);
  });

  it('says what to do where nothing can be stored', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'file'), 'x');
    const cache = await openCache(join(folder, 'file', 'cache'));
    expect(await cache.get('a')).toBeUndefined();
    expect(await cache.list()).toEqual([]);
    const storing = cache.put('a', Uint8Array.of(1));
    await expect(storing).rejects.toThrow(ArgumentError);
    await expect(storing).rejects.toThrow(/MAMBALAB_CACHE.*cache: false/);
    expect(await cache.room?.()).toBeGreaterThan(0);
  });
});
