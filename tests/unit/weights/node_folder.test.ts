import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError, WeightFormatError } from '@mambalab/kernels';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { weightFile } from './fixtures.ts';

describe('openNodeFolder', () => {
  let path = '';

  beforeAll(async () => {
    path = await mkdtemp(join(tmpdir(), 'mambalab-weights-'));
    await writeFile(join(path, 'config.json'), '{"model_type": "mamba"}');
    await writeFile(join(path, 'weights.safetensors'), weightFile({ a: [1, 2, 3] }));
    await mkdir(join(path, 'sub'));
    await mkdir(join(path, 'tokenizer.json'));
    await symlink('weights.safetensors', join(path, 'model.safetensors'));
  });

  afterAll(async () => {
    await rm(path, { recursive: true });
  });

  it('opens a checkpoint, through links too', async () => {
    const { config, source, tokenizerJson } = await openCheckpoint(await openNodeFolder(path));
    expect(config).toEqual({ model_type: 'mamba' });
    expect(tokenizerJson).toBeUndefined();
    expect([...new Float32Array((await source.read('a', 4)).buffer)]).toEqual([2, 3]);
    await source.dispose();
    await expect(source.read('a')).rejects.toThrow(/closed/);
  });

  it('lists files, and finds no folders and nothing outside', async () => {
    const folder = await openNodeFolder(join(path));
    expect(new Set(await folder.list?.())).toEqual(
      new Set(['config.json', 'model.safetensors', 'weights.safetensors']),
    );
    for (const name of ['none', 'sub', '../config.json', 'config.json/x', '']) {
      expect(await folder.file(name)).toBeUndefined();
      expect(await folder.readText(name)).toBeUndefined();
    }
    await folder.dispose();
  });

  it('refuses a path that is no folder', async () => {
    await expect(openNodeFolder(join(path, 'none'))).rejects.toThrow(ArgumentError);
    await expect(openNodeFolder(join(path, 'config.json'))).rejects.toThrow(/is a file/);
  });

  it('says so where a file became shorter, and stops when told to', async () => {
    await writeFile(join(path, 'short'), new Uint8Array(100));
    const folder = await openNodeFolder(path);
    const file = await folder.file('short');
    expect(await file?.size()).toBe(100);
    await truncate(join(path, 'short'), 40);
    await expect(file?.read(30, 60)).rejects.toThrow(WeightFormatError);
    const reason = new Error('stop');
    await expect(file?.read(0, 10, AbortSignal.abort(reason))).rejects.toBe(reason);
    await folder.dispose();
  });
});
