import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseConfig, weightsOf } from '@mambalab/models';
import type { Cache } from '@mambalab/models';
import { openFolder } from '@mambalab/models/node';
import { expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { WeightLoad } from '../../../packages/models/src/weights/load_weights.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { openShelf } from '../../../packages/models/src/weights/prepared_shelf.ts';
import { memoryCache, temporaryFolder } from '../../support/caches.ts';
import { nowhereDevice, watchMemory } from '../../support/host_device.ts';

const MIB = 2 ** 20;
const CONFIG = {
  model_type: 'llama',
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 9,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  vocab_size: 32_000,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
};

/** A checkpoint of 1 GB that takes no room: behind the header of its weights is a hole, which reads as zeros. */
async function sparseCheckpoint(): Promise<{ readonly folder: string; readonly size: number }> {
  const folder = await temporaryFolder();
  const header: Record<string, unknown> = {};
  let size = 0;
  for (const { name, shape } of weightsOf(parseConfig(CONFIG)).flatMap(({ sources }) => sources)) {
    const end = size + shape.reduce((product, length) => product * length, 2);
    header[name] = { dtype: 'BF16', shape, data_offsets: [size, end] };
    size = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.byteLength));
  await writeFile(join(folder, 'config.json'), JSON.stringify(CONFIG));
  const file = await open(join(folder, 'model.safetensors'), 'w');
  await file.write(Buffer.concat([length, json]));
  await file.truncate(8 + json.byteLength + size);
  await file.close();
  return { folder, size };
}

/** A cache that keeps what is small, and of the rest, which is zeros here, the sizes. */
function cacheOfZeros(): Cache {
  const small = memoryCache();
  const sizes = new Map<string, number>();
  return {
    ...small,
    put: async (key, bytes) => {
      if (/\/\d+$/.test(key)) sizes.set(key, bytes.byteLength);
      else await small.put(key, bytes);
    },
    fill: (key, target) => {
      target.fill(0);
      return Promise.resolve(sizes.has(key));
    },
    list: () => Promise.resolve([...sizes].map(([key, byteLength]) => ({ key, byteLength }))),
  };
}

it('1 GB is loaded, kept and loaded again with less than 256 MiB of memory', async () => {
  const { folder: path, size } = await sparseCheckpoint();
  const cache = cacheOfZeros();
  const isKept: boolean[] = [];
  for (const prepared of [false, true, true]) {
    using memory = watchMemory();
    const folder = await openFolder(path);
    const { config, source } = await openCheckpoint(folder);
    const plan = planWeights(parseConfig(config), source, 'auto');
    const shelf = await openShelf(folder, source, plan, {
      prepared,
      cache,
      dtype: 'auto',
      openCache: () => Promise.resolve(cache),
      onNote: expect.fail,
    });
    const load = await WeightLoad.begin({ folder, source, shelf });
    const device = nowhereDevice();
    const files = new Set<string>();
    await load.upload(device, plan, {
      onBytes: (_loaded, _total, file) => {
        memory.watch();
        files.add(file);
      },
    });
    await source.dispose();
    expect(device.written).toBeGreaterThan(10 ** 9);
    expect(device.written).toBeGreaterThanOrEqual(size);
    expect(memory.more / MIB).toBeLessThan(256);
    isKept.push(files.has(shelf?.file ?? ''));
  }
  expect(isKept).toEqual([false, false, true]);
}, 60_000);
