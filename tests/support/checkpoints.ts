import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ByteFile } from '@mambalab/models';
import { openSafetensors, writeSafetensors } from '@mambalab/models';
import { afterAll } from 'vitest';
import { fixturePath } from './fixtures.ts';

/** A tensor as `writeSafetensors` takes it. */
export type StoredTensor = Parameters<typeof writeSafetensors>[0][number];

/** What a broken copy changes; names of tensors are those of the checkpoint. */
export interface CheckpointChanges {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly tensors?: (tensors: Map<string, StoredTensor>) => void;
  /** Files to write as they are, by name. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
}

/** A copy of a model fixture in a folder of its own, with changes; the folder is removed after the tests of the file. */
export async function copyCheckpoint(name: string, changes: CheckpointChanges = {}): Promise<string> {
  const original = fixturePath(`models/${name}`);
  const folder = await mkdtemp(join(tmpdir(), 'mambalab-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  await cp(original, folder, { recursive: true });
  if (changes.config !== undefined) {
    const config: unknown = JSON.parse(await readFile(join(original, 'config.json'), 'utf8'));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...Object(config), ...changes.config }));
  }
  if (changes.tensors !== undefined) {
    const tensors = await readTensors(join(original, 'model.safetensors'));
    changes.tensors(tensors);
    await writeFile(join(folder, 'model.safetensors'), writeSafetensors([...tensors.values()]));
  }
  for (const [file, content] of Object.entries(changes.files ?? {})) await writeFile(join(folder, file), content);
  return folder;
}

/** A float32 tensor of a checkpoint. */
export function floats(name: string, shape: readonly number[], values: Iterable<number>): StoredTensor {
  return { name, dtype: 'F32', shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

/** Replaces one value of a float32 tensor. */
export function setValue(tensors: Map<string, StoredTensor>, name: string, index: number, value: number): void {
  const tensor = tensors.get(name);
  if (tensor?.dtype !== 'F32') throw new Error(`'${name}' is no float32 tensor`);
  // Not `slice`, which on Node's buffers shares memory.
  const bytes = new Uint8Array(tensor.bytes);
  new DataView(bytes.buffer).setFloat32(4 * index, value, true);
  tensors.set(name, { ...tensor, bytes });
}

/** A file in memory. */
export function fileInMemory(name: string, bytes: Uint8Array): ByteFile {
  return {
    name,
    size: () => Promise.resolve(bytes.byteLength),
    read: (start, end) => Promise.resolve(new Uint8Array(bytes.subarray(start, end))),
  };
}

async function readTensors(path: string): Promise<Map<string, StoredTensor>> {
  const source = await openSafetensors(fileInMemory(path, await readFile(path)));
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape } of source.tensors.values()) {
    tensors.set(name, { name, dtype, shape, bytes: await source.read(name) });
  }
  return tensors;
}
