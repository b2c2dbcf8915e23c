import { requestDevice } from '@mambalab/kernels';
import type { Cache, LoadProgress, Model } from '@mambalab/models';
import { clearCache, listCache, loadModel, openCache } from '@mambalab/models';
import { afterAll, expect, it } from 'vitest';
import { responseCache } from '../../packages/models/src/weights/browser_cache.ts';

const STORIES = new URL('/tests/fixtures/models/stories260k/', location.href);
const device = await requestDevice();
afterAll(() => device.dispose());

/** The bytes of all weights on the GPU, one tensor after another. */
async function weightsOf(model: Model): Promise<number[]> {
  const digests: number[] = [];
  for (const { buffer, byteLength } of model.runtime.constants.values()) {
    const bytes = await device.readBuffer(buffer, 0, byteLength);
    digests.push(...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
  }
  return digests;
}

it.each<[string, () => Promise<Cache>]>([
  ["the origin's private file system", openCache],
  ['the Cache API', async () => responseCache(await caches.open('prepared'))],
])('a quantized model is loaded again from %s, without a request for its weights', async (_where, open) => {
  const cache = await open();
  const load = async (): Promise<{ readonly weights: readonly number[]; readonly files: ReadonlySet<unknown> }> => {
    const files = new Set<unknown>();
    const onProgress = ({ file, note }: LoadProgress): unknown => files.add(note ?? file);
    using model = await loadModel(STORIES, { device, dtype: 'q8', cache, warmUp: false, onProgress });
    return { weights: await weightsOf(model), files };
  };
  try {
    const first = await load();
    expect([...first.files]).toContain('model.safetensors');
    const kept = (await listCache(cache)).find(({ prepared }) => prepared);
    expect(kept).toMatchObject({ whole: true });
    performance.clearResourceTimings();
    const second = await load();
    expect(second.weights).toEqual(first.weights);
    expect([...second.files]).toEqual([kept?.file, undefined]);
    const requests = performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.safetensors'));
    // The look at its ETag.
    expect(requests).toHaveLength(1);
  } finally {
    await clearCache({ cache });
  }
});
