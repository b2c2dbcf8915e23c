import { openBrowserCache } from '../../packages/models/src/weights/browser_cache.ts';
import { openHttpFolder } from '../../packages/models/src/weights/http_folder.ts';
import type { LoadOrder, LoadReport } from './load_order.ts';

/** Loads one file into the origin's cache, as a tab would, and tells what it got. */
async function load({ folder, file: name }: LoadOrder): Promise<LoadReport> {
  const cache = await openBrowserCache();
  const remote = openHttpFolder(folder, { cache });
  try {
    const file = await remote.file(name);
    await remote.beginStreaming?.();
    const size = (await file?.size()) ?? 0;
    const bytes = new Uint8Array(size);
    const step = 3 * 2 ** 20;
    for (let at = 0; at < size; at += step) {
      bytes.set((await file?.read(at, Math.min(at + step, size))) ?? new Uint8Array(), at);
    }
    await remote.endStreaming?.();
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const requests = performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith(name)).length;
    return { digest: [...digest], requests };
  } finally {
    await remote.dispose();
  }
}

addEventListener('message', ({ data }: MessageEvent<LoadOrder>) => {
  load(data).then(
    (report) => postMessage(report, {}),
    (error: unknown) => postMessage({ error: String(error) }, {}),
  );
});
