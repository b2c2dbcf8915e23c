import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArgumentError, IntegrityError, WeightFormatError } from '@mambalab/kernels';
import { parseConfig } from '@mambalab/models';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { convert } from '../../../packages/models/src/cli/convert.ts';
import { inspect } from '../../../packages/models/src/cli/inspect.ts';
import { toFloat32, toPackedBf16 } from '../../../packages/models/src/weights/convert.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import type { Checkpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { writeSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import { fixturePath } from '../../support/fixtures.ts';

const mamba2 = fixturePath('models/mamba2');
const flags = { shardSize: 4e9 };
const { isTTY } = process.stderr;

let folder = '';
let target = '';
let out = '';
let messages = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mambalab-'));
  target = join(folder, 'out');
  out = '';
  messages = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    messages += String(text);
    return true;
  });
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.stderr.isTTY = isTTY;
  await rm(folder, { recursive: true, force: true });
});

const open = async (path: string): Promise<Checkpoint> => openCheckpoint(await openNodeFolder(path));

async function expectSameTensors(a: Checkpoint, b: Checkpoint): Promise<void> {
  expect([...a.source.tensors.keys()].sort()).toEqual([...b.source.tensors.keys()].sort());
  for (const [name, { dtype, shape }] of b.source.tensors) {
    expect(a.source.tensors.get(name)).toMatchObject({ dtype, shape });
    expect([name, Buffer.compare(await a.source.read(name), await b.source.read(name))]).toEqual([name, 0]);
  }
  await Promise.all([a.source.dispose(), b.source.dispose()]);
}

/** Nothing but this stands in the folder of the test. */
async function expectLeft(...names: readonly string[]): Promise<void> {
  expect((await readdir(folder)).sort()).toEqual([...names].sort());
}

describe('convert', () => {
  it.each([
    ['a folder of Hugging Face', 'models/mamba2', 'models/mamba2'],
    ['a Megatron checkpoint in two ranks', 'megatron/hybrid', 'models/nemotron_h'],
  ])('keeps every byte of %s', async (_what, from, same) => {
    await convert(fixturePath(from), target, flags);
    await expectSameTensors(await open(target), await open(fixturePath(same)));
    const { config, source } = await open(target);
    const expected = await open(fixturePath(same));
    expect({ ...parseConfig(config).spec, eosTokens: [2] }).toEqual(parseConfig(expected.config).spec);
    await Promise.all([source.dispose(), expected.source.dispose()]);
    expect(out).toMatch(/^\S+out: \d+ tensors, [\d.]+ KiB as F32, in one file\n$/);
    expect(messages).toBe('');
    await expectLeft('out');
  });

  it('keeps every byte of a .bin', async () => {
    const from = join(folder, 'in');
    await mkdir(from);
    const variant = fixturePath('models/variants/mamba2');
    await cp(join(variant, 'config.json'), join(from, 'config.json'));
    await cp(fixturePath('torch/mamba2.bin'), join(from, 'pytorch_model.bin'));
    await convert(from, target, flags);
    await expectSameTensors(await open(target), await open(variant));
  });

  it('writes what a GGUF file holds into the files of a folder', async () => {
    await convert(fixturePath('gguf/llama-q8_0.gguf'), target, flags);
    expect((await readdir(target)).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const { config, tokenizerConfig, source } = await open(target);
    expect(parseConfig(config).spec).toEqual({
      ...parseConfig((await open(fixturePath('models/llama'))).config).spec,
      eosTokens: [2],
    });
    expect(tokenizerConfig).toMatchObject({ bos_token: '<s>', eos_token: '</s>' });
    expect(source.tensors.get('model.layers.0.self_attn.q_proj.weight')).toMatchObject({
      dtype: 'F32',
      shape: [32, 32],
    });
    await source.dispose();
    expect(out).toMatch(/30 tensors, [\d.]+ KiB as F32, in one file/);
  });

  it('copies configurations and tokenizers, and nothing else', async () => {
    const from = join(folder, 'in');
    await cp(mamba2, from, { recursive: true });
    const large = 'x'.repeat(17 * 2 ** 20);
    const files = { 'tokenizer.json': '{}', 'tokenizer.model': large, 'own.model': 'sentences', 'notes.txt': 'no' };
    for (const [name, text] of Object.entries(files)) await writeFile(join(from, name), text);
    await convert(from, target, { ...flags, json: true });
    const copied = ['generation_config.json', 'own.model', 'tokenizer.json', 'tokenizer.model'];
    expect(await readdir(target)).toEqual(['config.json', ...copied, 'model.safetensors'].sort());
    for (const name of copied) {
      expect(Buffer.compare(await readFile(join(target, name)), await readFile(join(from, name)))).toBe(0);
    }
    expect(JSON.parse(out)).toMatchObject({
      path: target,
      files: ['config.json', ...copied, 'model.safetensors'].sort(),
    });
    const text = await readFile(join(target, 'config.json'), 'utf8');
    expect(text).toContain('Infinity');
    const [written, original] = [await open(target), await open(from)];
    expect(written.config).toEqual(original.config);
    await Promise.all([written.source.dispose(), original.source.dispose()]);
  });

  it('narrows matrices and leaves the rest in float32', async () => {
    await convert(mamba2, target, { ...flags, dtype: 'bf16', json: true });
    const [narrow, original] = [await open(target), await open(mamba2)];
    const dtypes = Object.fromEntries([...narrow.source.tensors].map(([name, { dtype }]) => [name, dtype]));
    const layer = 'backbone.layers.1.mixer';
    expect(dtypes).toMatchObject({
      'backbone.embeddings.weight': 'BF16',
      [`${layer}.in_proj.weight`]: 'BF16',
      [`${layer}.A_log`]: 'F32',
      [`${layer}.conv1d.weight`]: 'F32',
      'backbone.norm_f.weight': 'F32',
    });
    const name = `${layer}.out_proj.weight`;
    const { words } = toPackedBf16(await original.source.read(name), 'F32');
    expect(Buffer.compare(await narrow.source.read(name), new Uint8Array(words.buffer))).toBe(0);
    expect(narrow.config).toMatchObject({ dtype: 'bfloat16' });
    expect(JSON.parse(out)).toMatchObject({ storedAs: ['BF16', 'F32'] });
    // And back: what was rounded stays rounded, the type is the first again.
    const back = join(folder, 'back');
    await convert(target, back, { ...flags, dtype: 'f32' });
    const wide = await open(back);
    expect(toFloat32(await wide.source.read(name), 'F32')).toEqual(toFloat32(await narrow.source.read(name), 'BF16'));
    expect(wide.config).toEqual(original.config);
    await Promise.all([narrow, original, wide].map(({ source }) => source.dispose()));
  });

  it('writes matrices in blocks, and says so to whoever inspects them', async () => {
    await convert(mamba2, target, { ...flags, dtype: 'q4', method: 'search', tensor: { head: 'q8' }, json: true });
    expect(JSON.parse(out)).toMatchObject({ tensors: 29, storedAs: ['q8', 'F32', 'q4'] });
    expect(await readdir(target)).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    out = '';
    await inspect(target, { json: true });
    // Two matrices in each of three layers, 18 bytes a block.
    expect(JSON.parse(out)).toMatchObject({
      family: 'mamba2',
      storedBytes: { q4: 3 * 18 * (196 + 64), q8: 128 * 34 },
    });
    out = '';
    await inspect(target, {});
    expect(out).toContain('stored as       F32 (8.9 KiB), q8 (4.3 KiB), q4 (13.7 KiB)\n');
    // config.json is what it was: blocks are no type of a framework.
    const [written, original] = [await open(target), await open(mamba2)];
    expect(written.config).toEqual(original.config);
    await Promise.all([written.source.dispose(), original.source.dispose()]);
  });

  it('counts the bytes of what it reads to the end, also where it writes blocks', async () => {
    process.stderr.isTTY = true;
    await convert(mamba2, target, { ...flags, dtype: 'q8' });
    expect(messages).toContain('converting 122.4 KiB of 122.4 KiB');
  });

  it('writes several files with an index, the same each time', async () => {
    await convert(mamba2, target, { shardSize: 40_000 });
    const names = (await readdir(target)).filter((name) => name.endsWith('.safetensors'));
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expect((await stat(join(target, name))).size).toBeLessThan(42_000);
    await expectSameTensors(await open(target), await open(mamba2));
    const again = join(folder, 'again');
    await convert(target, again, { shardSize: 40_000 });
    for (const name of await readdir(target)) {
      expect([name, Buffer.compare(await readFile(join(target, name)), await readFile(join(again, name)))]).toEqual([
        name,
        0,
      ]);
    }
    expect(out).toMatch(/in \d files/);
  });

  it('refuses values that the type cannot hold, and leaves nothing behind', async () => {
    const from = join(folder, 'in');
    await cp(mamba2, from, { recursive: true });
    const { source } = await open(from);
    const tensors = await Promise.all(
      [...source.tensors.values()].map(async ({ name, dtype, shape }) => ({
        name,
        dtype,
        shape,
        bytes: await source.read(name),
      })),
    );
    await source.dispose();
    for (const { name, bytes } of tensors) {
      if (name === 'backbone.layers.0.mixer.in_proj.weight')
        new DataView(bytes.buffer, bytes.byteOffset).setFloat32(0, 1e6, true);
    }
    await writeFile(join(from, 'model.safetensors'), writeSafetensors(tensors));
    const converting = convert(from, target, { ...flags, dtype: 'f16' });
    await expect(converting).rejects.toThrow(IntegrityError);
    await expect(converting).rejects.toThrow(/1 values of 'backbone\.layers\.0\.mixer\.in_proj\.weight'/);
    await expectLeft('in');
  });

  it('tells a terminal how far it is', async () => {
    process.stderr.isTTY = true;
    await convert(mamba2, target, flags);
    expect(messages).toContain('converting 16.0 KiB of 122.4 KiB');
    expect(messages.endsWith('\r\x1b[K')).toBe(true);
    await convert(mamba2, join(folder, 'quiet'), { ...flags, json: true });
    expect(messages.endsWith('\r\x1b[K')).toBe(true);
  });

  it('leaves nothing behind where it is interrupted', async () => {
    process.stderr.isTTY = true;
    vi.mocked(process.stderr.write).mockImplementation(() => process.emit('SIGINT'));
    await expect(convert(mamba2, target, flags)).rejects.toThrow(/Interrupted/);
    await expectLeft();
  });

  it('refuses what does not load before it writes', async () => {
    const from = join(folder, 'in');
    await cp(mamba2, from, { recursive: true });
    await writeFile(join(from, 'model.safetensors'), writeSafetensors([]));
    await expect(convert(from, target, flags)).rejects.toThrow(WeightFormatError);
    await expect(convert(join(folder, 'nowhere'), target, flags)).rejects.toThrow(ArgumentError);
    await expectLeft('in');
  });
});

describe('a folder that exists', () => {
  it('is kept without --force', async () => {
    await mkdir(target);
    await writeFile(join(target, 'config.json'), 'mine');
    await expect(convert(mamba2, target, flags)).rejects.toThrow(/exists already.*--force/);
    expect(await readdir(target)).toEqual(['config.json']);
    await expectLeft('out');
  });

  it('is replaced with it, as a whole', async () => {
    await mkdir(target);
    await writeFile(join(target, 'config.json'), 'old');
    await writeFile(join(target, 'model-00001-of-00002.safetensors'), 'old');
    await convert(mamba2, target, { ...flags, force: true });
    expect(await readdir(target)).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    await expectSameTensors(await open(target), await open(mamba2));
    await expectLeft('out');
  });

  it('is kept where the conversion fails', async () => {
    const from = join(folder, 'in');
    await cp(mamba2, from, { recursive: true });
    await writeFile(
      join(from, 'model.safetensors'),
      (await readFile(join(mamba2, 'model.safetensors'))).subarray(0, -4),
    );
    await mkdir(target);
    await writeFile(join(target, 'config.json'), 'old');
    await expect(convert(from, target, { ...flags, force: true })).rejects.toThrow(WeightFormatError);
    expect(await readdir(target)).toEqual(['config.json']);
    await expectLeft('in', 'out');
  });

  it('is not replaced where it is no model', async () => {
    await mkdir(target);
    await writeFile(join(target, 'thesis.txt'), 'mine');
    await expect(convert(mamba2, target, { ...flags, force: true })).rejects.toThrow(/is no model folder/);
    expect(await readdir(target)).toEqual(['thesis.txt']);
  });

  it('is not replaced where it holds what is converted', async () => {
    await cp(mamba2, join(target, 'in'), { recursive: true });
    await writeFile(join(target, 'config.json'), '{}');
    const converting = convert(join(target, 'in'), target, { ...flags, force: true });
    await expect(converting).rejects.toThrow(/holds what is to be converted/);
    expect((await readdir(target)).sort()).toEqual(['config.json', 'in']);
  });

  it('is not replaced by itself, nor where it is a file', async () => {
    await cp(mamba2, target, { recursive: true });
    await expect(convert(target, target, { ...flags, force: true })).rejects.toThrow(/holds what is to be converted/);
    const file = join(folder, 'file');
    await writeFile(file, 'mine');
    await expect(convert(mamba2, file, { ...flags, force: true })).rejects.toThrow(/is no model folder/);
    await expect(convert(mamba2, join(folder, 'a', 'b'), flags)).rejects.toThrow(/There is no folder/);
    await expectLeft('out', 'file');
  });
});

describe('the program', () => {
  const run = async (...words: readonly string[]): Promise<void> => {
    const before = process.argv;
    process.argv = ['node', 'mambalab', ...words];
    vi.resetModules();
    try {
      await import('../../../packages/models/src/cli/main.ts');
    } finally {
      process.argv = before;
    }
  };

  it('reads rules for single tensors', async () => {
    await run('convert', mamba2, target, '--dtype', 'q8', '--tensor', 'head=q4', '--tensor', '*.out_proj.weight=exact');
    expect(out).toMatch(/29 tensors, [\d.]+ KiB as q4, F32, q8, in one file/);
    await run('convert', mamba2, join(folder, 'no'), '--dtype', 'q4', '--tensor', 'haed=q8');
    expect(messages).toContain("ArgumentError: 'quantization.tensors' names 'haed'");
    expect(process.exitCode).toBe(1);
    process.exitCode = undefined;
  });

  it('knows the command and its options', async () => {
    await run('convert', mamba2, target, '--dtype', 'f16', '--shard-size', '0.05MB', '--json');
    expect(JSON.parse(out)).toMatchObject({ path: target, storedAs: ['F16', 'F32'] });
    expect((await readdir(target)).filter((name) => name.endsWith('.safetensors')).length).toBe(2);
    expect(process.exitCode).toBeUndefined();
  });
});
