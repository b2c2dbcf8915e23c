import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Device } from '@mambalab/kernels';
import { Executor } from '@mambalab/kernels';
import { ArgumentError, IntegrityError, StorageQuotaError } from '@mambalab/models';
import type { Cache, LoadOptions, LoadProgress, Model } from '@mambalab/models';
import { loadModel, openCache, openFolder } from '@mambalab/models/node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadFrom } from '../../packages/models/src/load_model.ts';
import { memoryCache } from '../support/caches.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import type { Fault, SeenRequest, TestServer } from '../support/http_server.ts';
import { serveFiles } from '../support/http_server.ts';

const device = await openTestDevice();
const path = fixturePath('models/mamba2');
const NAMES = ['config.json', 'generation_config.json', 'model.safetensors'];
const contents = new Map(NAMES.map((name) => [name, new Uint8Array(readFileSync(`${path}/${name}`))]));
const weights = contents.get('model.safetensors') ?? new Uint8Array();
const sha256 = createHash('sha256').update(weights).digest('hex');
const COMMIT = 'c'.repeat(40);

/** The fixture as `org/name` on a hub. */
function serveHub(
  fault: (request: SeenRequest, index: number) => Fault | undefined = () => undefined,
): Promise<TestServer> {
  const files: Record<string, Uint8Array> = {};
  for (const [name, bytes] of contents) {
    for (const revision of ['main', COMMIT]) files[`/org/name/resolve/${revision}/${name}`] = bytes;
  }
  return serveFiles(files, (request, index) => ({
    headers: {
      'x-repo-commit': COMMIT,
      ...(request.path.endsWith('model.safetensors') && { 'x-linked-etag': `"${sha256}"` }),
    },
    ...fault(request, index),
  }));
}

const isWeightRange = ({ path: asked, range }: SeenRequest): boolean =>
  asked.endsWith('model.safetensors') && !range.startsWith('0-');

const isWeight = (line: string): boolean => line.includes('model.safetensors ');

async function load(server: TestServer, cache: Cache | false, options: LoadOptions = {}): Promise<Model> {
  return await loadModel('org/name', { device, endpoint: server.url, cache, warmUp: false, ...options });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a model of a hub', () => {
  it('computes what the same model on disk computes, at the second load without a download', async () => {
    const tokens = [1, 5, 9];
    using local = await loadModel(path, { device, warmUp: false });
    const expected = await local.logits(tokens);
    const server = await serveHub();
    const cache = memoryCache();
    const allBytes = [...contents.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    for (const phases of [
      ['download', 'upload', 'compile'],
      ['upload', 'compile'],
    ]) {
      const seen: LoadProgress[] = [];
      using model = await load(server, cache, { onProgress: (progress) => seen.push(progress) });
      expect(await model.logits(tokens)).toEqual(expected);
      expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(phases);
      for (const phase of phases.slice(0, -1)) {
        const own = seen.filter((progress) => progress.phase === phase);
        const loaded = own.map(({ loadedBytes }) => loadedBytes);
        const [{ totalBytes = 0 } = {}] = own;
        expect(loaded.toSorted((a, b) => a - b)).toEqual(loaded);
        expect(loaded.at(-1)).toBe(totalBytes);
        expect(own.every((progress) => progress.totalBytes === totalBytes)).toBe(true);
        expect(new Set(own.map(({ file }) => file))).toEqual(new Set(['model.safetensors']));
        expect(phase === 'upload' ? allBytes : totalBytes).toBe(allBytes);
      }
    }
    expect(server.lines().filter((line) => line.includes('/main/'))).toHaveLength(2);
    expect(server.lines().filter(isWeight)).toHaveLength(2);
  });

  it('compiles its shaders while the weights arrive', async () => {
    const compile = vi.spyOn(Executor.prototype, 'compile');
    const before: number[] = [];
    const server = await serveHub((request) => {
      if (isWeightRange(request)) before.push(compile.mock.calls.length);
      return undefined;
    });
    using model = await load(server, false, { warmUp: true });
    expect(before).toEqual([3]);
    // What was compiled before there were weights is used with them.
    const { tokens } = await model.generate([1, 2, 3], { maxTokens: 2, ignoreEos: true }).result;
    expect(tokens).toHaveLength(2);
  });
});

describe('a load that fails leaves nothing behind:', () => {
  async function expectFailure(
    loading: (signal: AbortSignal) => Promise<Model>,
    failure: Error | (abstract new (...args: never[]) => Error),
    abort: AbortController = new AbortController(),
  ): Promise<void> {
    const before = device.allocatedBytes;
    const error: unknown = await loading(abort.signal).catch((caught: unknown) => caught);
    const isExpected = failure instanceof Error ? error === failure : error instanceof failure;
    expect([isExpected, String(error)]).toEqual([true, String(error)]);
    expect(device.allocatedBytes).toBe(before);
    await device.idle();
    expect(device.allocatedBytes).toBe(before);
  }

  it('an abort while weights arrive', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const server = await serveHub((request) => {
      if (!isWeightRange(request)) return undefined;
      setTimeout(() => abort.abort(reason), 20);
      return { stallAfter: 30_000 };
    });
    const cache = memoryCache();
    await expectFailure((signal) => load(server, cache, { signal, warmUp: true }), reason, abort);
    const parts = (await cache.list('files/sha256')).map(({ key }) => key);
    expect(parts).toEqual([]);
  });

  it('weights that are not what the hub names', async () => {
    const server = await serveHub((request) =>
      request.path.endsWith('model.safetensors') ? { headers: { 'x-linked-etag': 'a'.repeat(64) } } : undefined,
    );
    const cache = memoryCache();
    await expectFailure(() => load(server, cache), IntegrityError);
    expect((await cache.list('files/')).some(({ key }) => key.includes('aaaa'))).toBe(false);
  });

  it('a shader that does not compile, which stops the download', async () => {
    const error = new Error('of the compiler');
    vi.spyOn(Executor.prototype, 'compile').mockRejectedValue(error);
    const server = await serveHub((request) => (isWeightRange(request) ? { stallAfter: 1000 } : undefined));
    const started = performance.now();
    await expectFailure(() => load(server, memoryCache(), { warmUp: true }), error);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('a listener that throws at a download', async () => {
    const error = new Error('of the listener');
    const server = await serveHub();
    const onProgress = ({ phase }: LoadProgress): void => {
      if (phase === 'download') throw error;
    };
    await expectFailure(() => load(server, memoryCache(), { onProgress }), error);
  });
});

it('is refused before a device is requested where it is not there, or the cache has no room', async () => {
  const server = await serveHub();
  let requests = 0;
  const platform = {
    openFolder,
    openCache,
    requestDevice: (): Promise<Device> => {
      requests += 1;
      return Promise.reject(new Error('a device was requested'));
    },
  };
  const full: Cache = { ...memoryCache(), room: () => Promise.resolve(1000) };
  const loading = (id: string, cache: Cache | false): Promise<Model> =>
    loadFrom(platform, id, { endpoint: server.url, cache });
  await expect(loading('org/name', full)).rejects.toThrow(StorageQuotaError);
  const missing = await serveFiles({});
  await expect(loadFrom(platform, 'org/other', { endpoint: missing.url, cache: false })).rejects.toThrow(ArgumentError);
  expect(requests).toBe(0);
});
