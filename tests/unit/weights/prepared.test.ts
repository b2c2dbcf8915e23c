import { createHash } from 'node:crypto';
import { StorageQuotaError } from '@mambalab/kernels';
import { openSafetensors, writeSafetensors } from '@mambalab/models';
import type { Cache, Folder, PlannedWeight, TensorSource } from '@mambalab/models';
import { clearCache, listCache, openCache } from '@mambalab/models/node';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { checksum } from '../../../packages/models/src/weights/checksum.ts';
import { WeightLoad } from '../../../packages/models/src/weights/load_weights.ts';
import { openShelf } from '../../../packages/models/src/weights/prepared_shelf.ts';
import type { ShelfOptions } from '../../../packages/models/src/weights/prepared_shelf.ts';
import { memoryCache, temporaryFolder } from '../../support/caches.ts';
import { fileInMemory } from '../../support/checkpoints.ts';
import { hostDevice } from '../../support/host_device.ts';
import { Random } from '../../support/numbers.ts';

const MIB = 2 ** 20;
/** Rows of 1024 values: 10 MiB of f16 on the GPU, more than a segment. */
const ROWS = 5 * 1024;

const matrix = (name: string, dtype: PlannedWeight['dtype'], rows: number, width: number): PlannedWeight => ({
  dtype,
  spec: { name, kind: 'matrix', shape: [rows, width], sources: [{ name, shape: [rows, width] }] },
});
/** Rows of 33 values are padded, and q8 has two planes. */
const plan: readonly PlannedWeight[] = [
  matrix('wide', 'f16', ROWS, 1024),
  matrix('odd', 'f16', 7, 33),
  matrix('blocks', 'q8', 70, 100),
  { dtype: 'f32', spec: { name: 'norm', kind: 'vector', shape: [5], sources: [{ name: 'norm', shape: [5] }] } },
];

let source: TensorSource;
/** Tensors that were read of it. */
const reads: string[] = [];

beforeAll(async () => {
  const random = new Random(1);
  const file = writeSafetensors(
    plan.map(({ spec: { name, shape } }) => {
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      for (let i = 0; i < values.length; i += 97) values[i] = random.normal();
      return { name, dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
    }),
  );
  const opened = await openSafetensors(fileInMemory('model.safetensors', file));
  source = {
    ...opened,
    read: (name, ...rest) => {
      reads.push(name);
      return opened.read(name, ...rest);
    },
  };
});

interface World {
  cache: Cache;
  /** What the place calls the content of the file. */
  etag: string | undefined;
  notes: string[];
  options: Partial<ShelfOptions>;
  folder: Partial<Folder>;
}

function worldOf(cache: Cache): World {
  return { cache, etag: 'one', notes: [], options: {}, folder: {} };
}

/** Loads once. Tells the digests of what is on the device then, and which tensors were read of the source. */
async function load(
  { cache, etag, notes, options, folder: more }: World,
  signal?: AbortSignal,
  openAnyShelf: typeof openShelf = openShelf,
): Promise<{ readonly contents: Map<string, string>; readonly read: readonly string[] }> {
  const folder: Folder = {
    label: 'org/name (main)',
    kept: { cache, source: 'org/name' },
    file: (name) => Promise.resolve({ ...fileInMemory(name, new Uint8Array()), identity: () => Promise.resolve(etag) }),
    readText: () => Promise.resolve(undefined),
    dispose: () => Promise.resolve(),
    ...more,
  };
  const shelf = await openAnyShelf(folder, source, plan, {
    dtype: 'f16',
    openCache: () => Promise.resolve(cache),
    onNote: (note) => notes.push(note),
    ...options,
  });
  const device = hostDevice();
  const first = reads.length;
  const weights = await WeightLoad.begin({ folder, source, shelf }, signal);
  await weights.upload(device, plan, { signal }).catch((error: unknown) => {
    throw device.contents.size === 0 ? error : new Error('A load that failed left tensors on the device.');
  });
  const contents = new Map([...device.contents].map(([label, bytes]) => [label, digestOf(bytes)]));
  return { contents, read: reads.slice(first) };
}

const digestOf = (bytes: Uint8Array): string => createHash('sha1').update(bytes).digest('hex');

const stored = async (cache: Cache): Promise<readonly string[]> =>
  (await cache.list('prepared/')).map(({ key }) => key.replace(/[0-9a-f]{64}/, 'KEY')).sort();

const WHOLE = ['prepared/KEY/000000', 'prepared/KEY/000001', 'prepared/KEY/about', 'prepared/KEY/whole'];

describe('weights as they lie on the GPU', () => {
  it('are read from the cache at the second load, equal in every bit, in Node and where a cache has only the essentials', async () => {
    for (const cache of [await openCache(await temporaryFolder()), memoryCache()]) {
      const world = worldOf(cache);
      const first = await load(world);
      expect(first.read).toContain('wide');
      expect(await stored(cache)).toEqual(WHOLE);
      const second = await load(world);
      expect(second.read).toEqual([]);
      expect(second.contents).toEqual(first.contents);
      expect(world.notes).toEqual([]);
    }
  });

  it('are made anew when the content, the type or the quantization is another, and take the place of older content', async () => {
    const cache = memoryCache();
    const world = worldOf(cache);
    await load(world);
    world.etag = 'two';
    expect((await load(world)).read).toContain('wide');
    expect((await load(world)).read).toEqual([]);
    expect(await stored(cache)).toEqual(WHOLE);
    for (const options of [{ dtype: 'q8' }, { dtype: 'q8', quantization: { tensors: { wide: 'exact' } } }] as const) {
      expect((await load({ ...world, options })).read).toContain('wide');
      expect((await load({ ...world, options })).read).toEqual([]);
    }
    // All three are there.
    expect(await stored(cache)).toHaveLength(3 * WHOLE.length);
    expect((await load(world)).read).toEqual([]);
  });

  it('are made anew by another version of the library', async () => {
    const world = worldOf(memoryCache());
    await load(world);
    vi.resetModules();
    vi.doMock('../../../packages/models/package.json', () => ({ default: { version: '99.0.0' } }));
    const other = await import('../../../packages/models/src/weights/prepared_shelf.ts');
    vi.doUnmock('../../../packages/models/package.json');
    expect((await load(world, undefined, other.openShelf)).read).toContain('wide');
    expect((await load(world, undefined, other.openShelf)).read).toEqual([]);
    expect(await stored(world.cache)).toEqual(WHOLE);
  });

  it.each<[string, (values: Map<string, Uint8Array>, key: string) => void]>([
    ['a segment that is missing', (values, key) => values.delete(`${key}000001`)],
    ['a segment cut short', (values, key) => values.set(`${key}000001`, new Uint8Array(100))],
    ['a bit that changed', (values, key) => change(values.get(`${key}000000`), 5 * MIB)],
    ['a bit that changed at the end', (values, key) => change(values.get(`${key}000001`), 0)],
    ['a damaged mark', (values, key) => change(values.get(`${key}whole`), 100)],
  ])('are replaced where there is %s', async (_damage, spoil) => {
    const cache = memoryCache();
    const world = worldOf(cache);
    const first = await load(world);
    const mark = [...cache.values.keys()].find((key) => key.endsWith('/whole')) ?? '';
    spoil(cache.values, mark.slice(0, -'whole'.length));
    const second = await load(world);
    expect(second.read).toContain('wide');
    expect(second.contents).toEqual(first.contents);
    const third = await load(world);
    expect(third.read).toEqual([]);
    expect(third.contents).toEqual(first.contents);
  });

  it('are not kept of a load that is aborted, or whose source turns out to be wrong', async () => {
    for (const at of ['000000', '000001', 'end']) {
      const cache = memoryCache();
      const abort = new AbortController();
      const reason = new Error('enough');
      const put: Cache['put'] = async (key, bytes, signal) => {
        await cache.put(key, bytes);
        if (key.endsWith(at)) abort.abort(reason);
        signal?.throwIfAborted();
      };
      const world = worldOf({ ...cache, put });
      if (at === 'end') world.folder = { endStreaming: () => Promise.reject(reason) };
      await expect(load(world, abort.signal)).rejects.toBe(reason);
      expect(await stored(cache)).toEqual([]);
      expect(world.notes).toEqual([]);
    }
  });

  it('are no reason to fail where the cache is full or refuses, which is told', async () => {
    const cache = memoryCache();
    const refusals: Partial<Cache>[] = [
      { room: () => Promise.resolve(10 * MIB) },
      { put: () => Promise.reject(new StorageQuotaError('full', 'make room')) },
      {
        put: (key, bytes) =>
          key.endsWith('000001') ? Promise.reject(new DOMException('', 'QuotaExceededError')) : cache.put(key, bytes),
      },
      { put: (key, bytes) => (key.endsWith('whole') ? Promise.reject(new Error('odd')) : cache.put(key, bytes)) },
    ];
    const expected = (await load({ ...worldOf(cache), options: { prepared: false } })).contents;
    for (const refusal of refusals) {
      const world = worldOf({ ...cache, ...refusal });
      expect((await load(world)).contents).toEqual(expected);
      expect(world.notes).toEqual([expect.stringMatching(/org\/name are not kept.*(?:room|full|odd)/)]);
      expect(await stored(cache)).toEqual([]);
    }
    // What the files themselves still need comes first.
    const world = worldOf({ ...cache, room: () => Promise.resolve(20 * MIB) });
    world.folder = { beginStreaming: () => Promise.resolve(15 * MIB) };
    await load(world);
    expect(world.notes).toHaveLength(1);
  });

  it('can be loaded by several at once', async () => {
    const world = worldOf(await openCache(await temporaryFolder()));
    const [first, second] = await Promise.all([load(world), load(world)]);
    expect(second.contents).toEqual(first.contents);
    const both = await Promise.all([load(world), load(world)]);
    expect(both.map(({ read }) => read)).toEqual([[], []]);
    expect(both.map(({ contents }) => contents)).toEqual([first.contents, first.contents]);
    // One that fails leaves alone what another completed.
    const late: World = {
      ...world,
      folder: { endStreaming: () => load(world).then(() => Promise.reject(new Error('late'))) },
    };
    await clearCache({ cache: world.cache });
    await expect(load(late)).rejects.toThrow('late');
    expect((await load(world)).read).toEqual([]);
  });

  it('are listed and cleared with the files of their source', async () => {
    const cache = memoryCache();
    await load(worldOf(cache));
    const file = 'weights as on the GPU (f16)';
    const [listed, ...others] = await listCache(cache);
    expect(others).toEqual([]);
    expect(listed).toMatchObject({ source: 'org/name', file, whole: true, prepared: true });
    expect(listed?.size).toBe(listed?.storedBytes);
    expect(await clearCache({ source: 'org/other', cache })).toEqual([]);
    expect(await clearCache({ source: 'org/name', cache })).toHaveLength(1);
    expect([...cache.values.keys()]).toEqual([]);
  });
});

describe('what is kept', () => {
  it('by itself: weights of sources in a cache whose matrices have another type in their files', async () => {
    const cache = memoryCache();
    const same = plan.filter(({ spec }) => spec.name === 'norm');
    for (const [weights, kept, isKept] of [
      [plan, { cache, source: '' }, true],
      [same, { cache, source: '' }, false],
      [plan, undefined, false],
    ] as const) {
      const { folder } = worldOf(cache);
      const shelf = await openShelf(
        {
          label: '',
          kept,
          file: (name) =>
            Promise.resolve({ ...fileInMemory(name, new Uint8Array()), identity: () => Promise.resolve('1') }),
          readText: () => Promise.resolve(undefined),
          dispose: () => Promise.resolve(),
          ...folder,
        },
        source,
        weights,
        { dtype: 'f16', openCache: () => Promise.resolve(cache), onNote: () => undefined },
      );
      expect(shelf !== undefined).toBe(isKept);
    }
  });

  it('on request: others, too, if there is a cache and the source tells versions apart', async () => {
    const cache = memoryCache();
    const world = { ...worldOf(cache), folder: { kept: undefined }, options: { prepared: true } };
    await load(world);
    expect((await load(world)).read).toEqual([]);
    const nameless = { ...world, etag: undefined };
    expect((await load(nameless)).read).toContain('wide');
    expect(world.notes).toEqual([expect.stringContaining('does not tell its versions apart')]);
    await expect(load({ ...world, options: { prepared: true, cache: false } })).rejects.toThrow(
      /'prepared' asks to keep weights/,
    );
  });

  it('never where it is switched off', async () => {
    const cache = memoryCache();
    await load({ ...worldOf(cache), options: { prepared: false } });
    expect(cache.values.size).toBe(0);
  });
});

function change(bytes: Uint8Array | undefined, at: number): void {
  if (bytes === undefined) throw new Error('there is nothing to change');
  bytes[at] = (bytes[at] ?? 0) ^ 1;
}

describe('checksum', () => {
  it('tells every change of a bit, of the order and of the length', () => {
    const words = new Uint32Array(10).map((_, index) => index * 0x01010101);
    const others: number[] = [];
    for (let bit = 0; bit < 320; bit++) {
      const changed = words.slice();
      changed[bit >> 5] = (changed[bit >> 5] ?? 0) ^ (1 << (bit & 31));
      others.push(checksum(new Uint8Array(changed.buffer)));
    }
    for (let length = 0; length < 10; length++) others.push(checksum(new Uint8Array(words.buffer, 0, 4 * length)));
    others.push(checksum(new Uint8Array(words.toReversed().buffer)));
    expect(others).not.toContain(checksum(new Uint8Array(words.buffer)));
    // Nothing but zeros is not nothing.
    expect(checksum(new Uint8Array(8))).not.toBe(checksum(new Uint8Array(4)));
  });
});
