import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseConfig } from '@mambalab/models';
import type { WeightDtype } from '@mambalab/models';
import { openCache, openFolder } from '@mambalab/models/node';
import { expect, it, onTestFinished } from 'vitest';
import { openCheckpoint } from '../../packages/models/src/weights/folder.ts';
import { planWeights } from '../../packages/models/src/weights/plan.ts';
import { uploadWeights } from '../../packages/models/src/weights/upload.ts';
import { plannedBytes, transformedPieces } from '../../packages/models/src/weights/weight_pieces.ts';
import { temporaryFolder } from '../support/caches.ts';
import { nowhereDevice, watchMemory } from '../support/host_device.ts';

const MIB = 2 ** 20;

async function serveLarge(): Promise<{ readonly url: string; readonly size: number }> {
  const child = fork(fileURLToPath(new URL('../support/large_checkpoint.mjs', import.meta.url)));
  onTestFinished(() => void child.kill());
  const { port, size } = await new Promise<{ port: number; size: number }>((resolve, reject) => {
    child.once('message', (message) => resolve(message as { port: number; size: number }));
    child.once('error', reject);
  });
  return { url: `http://127.0.0.1:${port}/`, size };
}

it.each<[string, WeightDtype, boolean]>([
  ['as it is', 'auto', false],
  ['quantized', 'q8', false],
  ['into a cache, and out of it', 'auto', true],
])(
  'loads 1 GB %s with less than 256 MiB of memory',
  async (_how, dtype, isKept) => {
    const { url, size } = await serveLarge();
    expect(size).toBeGreaterThan(10 ** 9);
    const cache = isKept ? await openCache(await temporaryFolder()) : false;
    for (let pass = 0; pass < (isKept ? 2 : 1); pass++) {
      using memory = watchMemory();
      const started = performance.now();
      const folder = await openFolder(url, { cache });
      const { config, source } = await openCheckpoint(folder);
      const plan = planWeights(parseConfig(config), source, dtype);
      await folder.beginStreaming?.();
      const device = nowhereDevice();
      await uploadWeights(device, plan, transformedPieces(plan, source), { onBytes: memory.watch });
      await folder.endStreaming?.();
      await source.dispose();
      const megabytes = memory.more / MIB;
      console.log(
        `${dtype}, pass ${pass}: ${megabytes.toFixed(0)} MiB more, ${((size / 1e6 / (performance.now() - started)) * 1e3).toFixed(0)} MB/s`,
      );
      expect(device.written).toBeGreaterThan(dtype === 'q8' ? plannedBytes(plan, source) / 2 : 10 ** 9);
      expect(megabytes).toBeLessThan(256);
    }
  },
  300_000,
);
