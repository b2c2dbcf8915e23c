import { expect, it } from 'vitest';
import { checkLeaks } from '../../packages/bench/src/harness/leaks.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

it('leaves nothing behind after 10,000 texts and 1,000 sessions', { timeout: 7_200_000 }, async () => {
  const result = await checkLeaks(device, {
    generations: 10_000,
    sessions: 1000,
    onProgress: (done, all) => console.log(`${done} of ${all}`),
  });
  expect(result.more).toEqual({});
  expect(result.after).toEqual(result.before);
  expect(result.end).toEqual(result.empty);
});
