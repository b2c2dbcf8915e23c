import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseConfig, weightsOf } from '@mambalab/models';
import { Random } from './random.ts';

/** Values repeat after this many bytes: making new ones would take longer than writing them. */
const PATTERN_BYTES = 16 * 2 ** 20;

/**
 * Writes a checkpoint of a shape with random bfloat16 weights: config.json and model.safetensors.
 *
 * @param config what config.json will hold
 * @param folder made where it is missing; files of these names in it are replaced
 */
export async function writeRandomCheckpoint(config: unknown, folder: string): Promise<void> {
  const sources = weightsOf(parseConfig(config)).flatMap((weight) => weight.sources);
  const shapes = new Map(sources.map(({ name, shape }) => [name, shape]));
  const header: Record<string, unknown> = {};
  let size = 0;
  for (const [name, shape] of shapes) {
    const bytes = shape.reduce((product, length) => product * length, 2);
    header[name] = { dtype: 'BF16', shape, data_offsets: [size, size + bytes] };
    size += bytes;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(8 + Math.ceil(json.byteLength / 8) * 8).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.byteLength - 8), true);
  start.set(json, 8);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const pattern = randomHalves(PATTERN_BYTES);
  const file = await open(join(folder, 'model.safetensors'), 'w');
  try {
    await file.write(start);
    for (let at = 0; at < size; at += pattern.byteLength) {
      await file.write(pattern, 0, Math.min(pattern.byteLength, size - at));
    }
  } finally {
    await file.close();
  }
}

/** Normal numbers in bfloat16, of the size that weights have. */
function randomHalves(byteLength: number): Uint8Array {
  const words = new Uint32Array(new Random(1).normals(byteLength / 2, 0.02).buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}
