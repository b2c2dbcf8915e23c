import { readFileSync } from 'node:fs';
import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { listCache, loadModel, openCache } from '@mambalab/models/node';
import type { LoadOptions, LoadProgress, Model } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { measureLoads } from '../../packages/bench/src/harness/measure_load.ts';
import { writeRandomCheckpoint } from '../../packages/bench/src/harness/random_checkpoint.ts';
import { memoryCache, temporaryFolder } from '../support/caches.ts';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { serveFiles } from '../support/http_server.ts';

const device = await openTestDevice();
const path = fixturePath('models/mamba2');
const NAMES = ['config.json', 'generation_config.json', 'model.safetensors'];
const files = Object.fromEntries(NAMES.map((name) => [`/m/${name}`, new Uint8Array(readFileSync(join(path, name)))]));
const tokens = [1, 5, 9];

const load = (source: string, options: LoadOptions): Promise<Model> =>
  loadModel(source, { device, warmUp: false, dtype: 'q4', ...options });

/** Every tensor of weights as the GPU has it. */
async function weightsOf(model: Model): Promise<Map<string, ArrayBuffer>> {
  const bytes = new Map<string, ArrayBuffer>();
  for (const [name, { buffer, byteLength }] of model.runtime.constants) {
    bytes.set(name, await device.readBuffer(buffer, 0, byteLength));
  }
  return bytes;
}

describe('a model that is loaded again', () => {
  it('has the same bytes and logits, without a byte of its weights from the server', async () => {
    const server = await serveFiles(files);
    const cache = await openCache(await temporaryFolder());
    using first = await load(`${server.url}/m/`, { cache });
    const asked = server.requests.length;
    const seen: LoadProgress[] = [];
    using second = await load(`${server.url}/m/`, { cache, onProgress: (progress) => seen.push(progress) });
    expect(await weightsOf(second)).toEqual(await weightsOf(first));
    expect(await second.logits(tokens)).toEqual(await first.logits(tokens));
    const ranges = server.requests.slice(asked).filter((request) => request.path.endsWith('.safetensors'));
    expect(ranges.map(({ range }) => range)).toEqual(['0-65535']);
    const kept = (await listCache(cache)).find(({ prepared }) => prepared);
    expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(['upload', 'compile']);
    expect(seen.at(-2)).toEqual({ phase: 'upload', file: kept?.file, loadedBytes: kept?.size, totalBytes: kept?.size });
    // Also where of all that was downloaded nothing else is left.
    const { values, ...memory } = memoryCache();
    for (const { key } of await cache.list()) {
      if (!key.startsWith('files/')) await memory.put(key, (await cache.get(key)) ?? new Uint8Array());
    }
    using third = await load(`${server.url}/m/`, { cache: memory });
    expect(await third.logits(tokens)).toEqual(await first.logits(tokens));
    expect([...values.keys()].filter((key) => /^files\/.*\/\d+$/.test(key))).toHaveLength(2);
  });

  it('is made anew from a server with other weights', async () => {
    const cache = memoryCache();
    let etag = '"1"';
    const server = await serveFiles(files, () => ({ etag }));
    for (const [now, isMade] of [
      ['"1"', true],
      ['"1"', false],
      ['"2"', true],
    ] as const) {
      etag = now;
      let phases = 0;
      const onProgress = ({ file }: LoadProgress): void => void (file === 'model.safetensors' && phases++);
      (await load(`${server.url}/m/`, { cache, onProgress })).dispose();
      expect(phases > 0).toBe(isMade);
    }
    expect((await listCache(cache)).filter(({ prepared }) => prepared)).toHaveLength(1);
  });

  it('of a local folder is kept on request, and made anew when a file was written since', async () => {
    const folder = await copyCheckpoint('mamba2');
    const cache = memoryCache();
    using plain = await load(folder, { cache });
    expect(cache.values.size).toBe(0);
    const expected = await plain.logits(tokens);
    for (const isMade of [true, false, true]) {
      const from = new Set<string | undefined>();
      using model = await load(folder, { cache, prepared: true, onProgress: ({ file }) => from.add(file) });
      expect(await model.logits(tokens)).toEqual(expected);
      expect(from.has('model.safetensors')).toBe(isMade);
      if (!isMade) await utimes(join(folder, 'model.safetensors'), 1, 1);
    }
  });
});

it('what a load takes is measured, made and kept', async () => {
  const folder = await temporaryFolder();
  const config: unknown = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  // The file writes infinity in a way that only its own reader knows.
  await writeRandomCheckpoint({ ...Object(config), time_step_limit: [0, 100] }, folder);
  const runs = await measureLoads(folder, {
    dtype: 'q8',
    cacheParent: folder,
    repeats: 1,
    warmUp: false,
    requestDevice: openTestDevice,
    onRun: () => undefined,
  });
  expect(runs.map(({ kind, notes }) => [kind, notes])).toEqual([
    ['made', []],
    ['prepared', []],
  ]);
  const [made, kept] = runs;
  expect(made?.bytes).toBe(kept?.bytes);
  expect(made?.storingSeconds).toBeGreaterThan(0);
  expect(kept?.storingSeconds).toBe(0);
  expect(kept?.readingSeconds).toBeGreaterThan(0);
  for (const { seconds, uploadedSeconds, writingSeconds, gigabytesPerSecond, bytes } of runs) {
    expect(writingSeconds).toBeGreaterThan(0);
    expect(uploadedSeconds).toBeGreaterThan(writingSeconds);
    expect(seconds).toBeGreaterThanOrEqual(uploadedSeconds);
    expect(gigabytesPerSecond).toBeCloseTo(bytes / uploadedSeconds / 1e9);
  }
  // What was kept for the measurement is gone.
  expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors']);
});
