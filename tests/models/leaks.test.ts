import { expect, it } from 'vitest';
import { checkLeaks } from '../../packages/bench/src/harness/leaks.ts';
import { watchBuffers } from '../../packages/bench/src/harness/watched_gpu.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

it('leaves nothing behind after texts and sessions of every kind', async () => {
  const result = await checkLeaks(device, { generations: 12, sessions: 8 });
  expect(result.more).toEqual({});
  expect(result.after).toEqual(result.before);
  expect(result.end).toEqual(result.empty);
  expect(result.refused).toBeGreaterThan(5);
});

it('counts every buffer of the device, whoever makes it', () => {
  const watch = watchBuffers(device.gpu);
  const kept = device.createBuffer('kept', 8);
  const other = device.gpu.createBuffer({ label: 'other', size: 16, usage: 8 });
  expect(watch.now()).toMatchObject({ buffers: 2, bytes: 24 });
  other.destroy();
  other.destroy();
  expect([...watch.now().labels]).toEqual([['kept', 1]]);
  device.destroyBuffer(kept);
  expect(watch.now().buffers).toBe(0);
  watch.stop();
  expect(Object.hasOwn(device.gpu, 'createBuffer')).toBe(false);
});
