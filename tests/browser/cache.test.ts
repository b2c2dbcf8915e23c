import { StorageQuotaError } from '@mambalab/kernels';
import type { Cache } from '@mambalab/models';
import { clearCache, listCache, openCache } from '@mambalab/models';
import { cdp } from 'vitest/browser';
import { afterEach, describe, expect, it } from 'vitest';
import { fileSystemCache, responseCache } from '../../packages/models/src/weights/browser_cache.ts';
import { openHttpFolder } from '../../packages/models/src/weights/http_folder.ts';
import type { LoadOrder, LoadReport } from './load_order.ts';

const MIB = 2 ** 20;
/** 11 MiB: two segments. */
const order: LoadOrder = { folder: `${location.origin}/.cache/large-file/`, file: 'large.bin' };

afterEach(async () => {
  await clearCache();
});

async function digestOf(bytes: BufferSource): Promise<number[]> {
  return [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))];
}

/** A worker has its own realm and event loop, and shares the origin's storage and locks, as a second tab does. */
async function loadInWorker(): Promise<LoadReport> {
  const worker = new Worker(new URL('./load.worker.ts', import.meta.url), { type: 'module' });
  try {
    return await new Promise<LoadReport>((resolve, reject) => {
      worker.addEventListener('message', ({ data }: MessageEvent<LoadReport>) =>
        data.error === undefined ? resolve(data) : reject(new Error(data.error)),
      );
      worker.addEventListener('error', (event) => reject(new Error(event.message)));
      worker.postMessage(order, []);
    });
  } finally {
    worker.terminate();
  }
}

describe.each<[string, () => Promise<Cache>]>([
  [
    "the origin's private file system",
    async () =>
      fileSystemCache(await (await navigator.storage.getDirectory()).getDirectoryHandle('t', { create: true })),
  ],
  ['the Cache API', async () => responseCache(await caches.open('t'))],
])('a cache in %s', (_where, open) => {
  it('keeps values, and gives ranges of them', async () => {
    const cache = await open();
    expect(await cache.get('a/b')).toBeUndefined();
    await cache.put('a/b', Uint8Array.of(1, 2, 3));
    await cache.put('a/bc', Uint8Array.of(4));
    await cache.put('a/b', Uint8Array.of(5, 6, 7, 8));
    expect(await cache.get('a/b')).toEqual(Uint8Array.of(5, 6, 7, 8));
    expect(await cache.get('a/b', { start: 1, end: 3 })).toEqual(Uint8Array.of(6, 7));
    expect(await cache.get('a/b', { start: 1, end: 5 })).toBeUndefined();
    expect(await cache.list('a/bc')).toEqual([{ key: 'a/bc', byteLength: 1 }]);
    await cache.delete('a/b');
    await cache.delete('a/b');
    expect(await cache.list()).toEqual([{ key: 'a/bc', byteLength: 1 }]);
    expect(await cache.room?.()).toBeGreaterThan(0);
    await cache.delete('a/bc');
  });

  it('writes nothing after an abort, and holds no lock', async () => {
    const cache = await open();
    const reason = new Error('enough');
    const abort = new AbortController();
    const writing = cache.exclusive?.('k', () => {
      abort.abort(reason);
      return cache.put('k', new Uint8Array(MIB), abort.signal);
    });
    await expect(writing).rejects.toBe(reason);
    expect(await cache.list('k')).toEqual([]);
    expect((await navigator.locks.query()).held?.filter(({ name }) => name?.endsWith('/k'))).toEqual([]);
    // Whoever waits for a lock can stop waiting.
    const waiting = new AbortController();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    let first: Promise<void> | undefined;
    await new Promise<void>((started) => {
      first = cache.exclusive?.('k', () => {
        started();
        return released;
      });
    });
    const second = cache.exclusive?.('k', () => Promise.resolve(), waiting.signal);
    waiting.abort(reason);
    await expect(second).rejects.toBe(reason);
    release();
    await first;
  });
});

it('two loaders at once both get the right bytes, and fetch each segment once', async () => {
  const whole = await (await fetch(order.folder + order.file)).arrayBuffer();
  const expected = await digestOf(whole);
  const reports = await Promise.all([loadInWorker(), loadInWorker()]);
  expect(reports.map(({ digest }) => digest)).toEqual([expected, expected]);
  // Both look at the first bytes; what follows comes to one of them, and to the other from the cache.
  expect(reports.reduce((sum, { requests }) => sum + requests, 0)).toBe(2 + 2);
  const files = await listCache();
  expect(files).toMatchObject([
    { file: order.file, size: whole.byteLength, storedBytes: whole.byteLength, whole: true },
  ]);
  expect((await loadInWorker()).requests).toBe(1);
});

it('says what would help where the browser gives no more room', async () => {
  const { usage = 0 } = await navigator.storage.estimate();
  const { origin } = location;
  await cdp().send('Storage.overrideQuotaForOrigin', { origin, quotaSize: usage + 4 * MIB });
  try {
    const cache = await openCache();
    const load = async (own: Cache): Promise<void> => {
      const folder = openHttpFolder(order.folder, { cache: own });
      try {
        const file = await folder.file(order.file);
        await folder.beginStreaming?.();
        await file?.read(0, 9 * MIB);
      } finally {
        await folder.dispose();
      }
    };
    await expect(load(cache)).rejects.toThrow(StorageQuotaError);
    await expect(load(cache)).rejects.toThrow(/Make room for \d+ bytes: .*clearCache/);
    // Also where the browser does not tell before it refuses.
    const { room: _, ...silent } = cache;
    await expect(load(silent)).rejects.toThrow(StorageQuotaError);
    // The short last segment may have found room.
    expect(await listCache()).toMatchObject([{ whole: false }]);
  } finally {
    await cdp().send('Storage.overrideQuotaForOrigin', { origin });
  }
});
