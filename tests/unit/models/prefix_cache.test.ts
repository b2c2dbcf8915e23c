import type { Device, Tensor } from '@mambalab/kernels';
import { OutOfMemoryError } from '@mambalab/kernels';
import type { Sequence } from '@mambalab/models';
import { PrefixCache } from '@mambalab/models';
import { expect, it } from 'vitest';
import type { Snapshot } from '../../../packages/models/src/generation/snapshot.ts';

/** A device whose guards end when they are told to. */
function slowDevice(): { device: Device; end: (error?: Error) => void } {
  const waiting: ((error?: Error) => void)[] = [];
  const guard = async <T>(_what: string, body: () => T): Promise<T> => {
    const made = body();
    const error = await new Promise<Error | undefined>((resolve) => waiting.push(resolve));
    if (error !== undefined) throw error;
    return made;
  };
  const end = (error?: Error): void => {
    for (const resolve of waiting.splice(0)) resolve(error);
  };
  return { device: { guard } as unknown as Device, end };
}

/** A sequence of so many tokens, whose snapshots take eight bytes; those that live are counted. */
function sequenceOf(length: number): { sequence: Sequence; live: Set<Tensor>; restored: Snapshot[] } {
  const live = new Set<Tensor>();
  const restored: Snapshot[] = [];
  const snapshot = (): Snapshot => {
    const store = { byteLength: 8, dispose: () => live.delete(store) } as unknown as Tensor;
    live.add(store);
    return { length, furthest: length, capacity: 16, regions: [], store };
  };
  const fake = {
    snapshot,
    snapshotBytes: () => 8,
    reserve: () => Promise.resolve(),
    restore: (found: Snapshot) => restored.push(found),
  };
  return { sequence: fake as unknown as Sequence, live, restored };
}

it('keeps a beginning once, though several bring it at the same time', async () => {
  const cache = new PrefixCache(100);
  const { device, end } = slowDevice();
  const { sequence, live } = sequenceOf(2);
  const keeping = [cache.keep([1, 2], sequence, device), cache.keep([1, 2], sequence, device)];
  expect(live.size).toBe(2);
  end();
  await Promise.all(keeping);
  expect([cache.lengths, cache.bytes, live.size]).toEqual([[2], 8, 1]);
});

it('keeps nothing that comes after it was cleared, and nothing that there is no memory for', async () => {
  const cache = new PrefixCache(100);
  const { device, end } = slowDevice();
  const { sequence, live } = sequenceOf(1);
  const late = cache.keep([1], sequence, device);
  cache.clear();
  end();
  await late;
  expect([cache.lengths, live.size]).toEqual([[], 0]);
  const refused = cache.keep([1], sequence, device);
  end(new OutOfMemoryError('full', 'wait'));
  await refused;
  expect([cache.lengths, live.size]).toEqual([[], 0]);
  const failing = cache.keep([1], sequence, device);
  end(new Error('broken'));
  await expect(failing).rejects.toThrow('broken');
  expect(live.size).toBe(0);
});

it('never has more than it may, and gives up what was used least recently', async () => {
  const cache = new PrefixCache(16);
  const { device, end } = slowDevice();
  const { sequence, live } = sequenceOf(1);
  const keeping = [[1], [2], [3]].map((tokens) => cache.keep(tokens, sequence, device));
  end();
  await Promise.all(keeping);
  expect([cache.bytes, live.size]).toEqual([16, 2]);
  expect([cache.find([1, 5]), cache.find([3, 5])?.length]).toEqual([undefined, 1]);
});

it('begins with what is still there', async () => {
  const cache = new PrefixCache(16);
  const { device, end } = slowDevice();
  const { sequence, restored } = sequenceOf(1);
  const keeping = cache.keep([1], sequence, device);
  end();
  await keeping;
  expect([await cache.adopt([1, 2], sequence), await cache.adopt([2, 1], sequence), restored.length]).toEqual([
    1, 0, 1,
  ]);
  const adopting = cache.adopt([1, 2], sequence);
  cache.clear();
  expect([await adopting, restored.length]).toEqual([0, 1]);
});
