import { WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { isPlainFileName, openCheckpoint, openWeights } from '../../../packages/models/src/weights/folder.ts';
import { memoryFolder, weightFile } from './fixtures.ts';

const config = '{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}';
const index = (weightMap: unknown): string => JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap });

describe('openCheckpoint', () => {
  it('reads the JSON files and the header of model.safetensors', async () => {
    const folder = memoryFolder({
      'config.json': config,
      'generation_config.json': '{"eos_token_id": 0}',
      'tokenizer.json': '{"model": {}}',
      'tokenizer_config.json': '{"bos_token": "<s>"}',
      'chat_template.jinja': '{{ messages }}',
      'model.safetensors': weightFile({ a: [1, 2] }),
    });
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint).toMatchObject({
      config: { model_type: 'mamba2', time_step_limit: [0, Infinity] },
      generationConfig: { eos_token_id: 0 },
      tokenizerJson: { model: {} },
      tokenizerConfig: { bos_token: '<s>' },
      chatTemplate: '{{ messages }}',
    });
    expect([...(await checkpoint.source.read('a', 4))]).toEqual([...new Uint8Array(Float32Array.of(2).buffer)]);
    await checkpoint.source.dispose();
    expect(folder.disposed).toBe(true);
  });

  it('needs no more than config.json and weights', async () => {
    const checkpoint = await openCheckpoint(
      memoryFolder({ 'config.json': config, 'pytorch.safetensors': weightFile({ a: [1] }) }),
    );
    expect(checkpoint.source.tensors.get('a')?.file).toBe('pytorch.safetensors');
    expect(checkpoint.tokenizerJson).toBeUndefined();
    expect(checkpoint.chatTemplate).toBeUndefined();
  });

  it.each([
    ['no config.json', { 'model.safetensors': weightFile({}) }, /no config\.json in the test folder/],
    ['a broken config.json', { 'config.json': '{' }, /config\.json is not JSON/],
    ['no weights', { 'config.json': config, 'weights.bin': '' }, /no model\.safetensors.*files: none/],
    [
      'weights to choose from',
      { 'config.json': config, 'a.safetensors': weightFile({}), 'b.safetensors': weightFile({}) },
      /a\.safetensors, b\.safetensors/,
    ],
  ])('refuses a folder with %s', async (_what, files, message) => {
    const opening = openCheckpoint(memoryFolder(files));
    await expect(opening).rejects.toThrow(WeightFormatError);
    await expect(opening).rejects.toThrow(message);
  });

  it('closes the folder where opening fails', async () => {
    const folder = memoryFolder({ 'config.json': config, 'model.safetensors': weightFile({}), 'tokenizer.json': '{' });
    await expect(openCheckpoint(folder)).rejects.toThrow(/tokenizer\.json is not JSON/);
    expect(folder.disposed).toBe(true);
  });
});

describe('weights in several files', () => {
  const shards = { 'x-1.safetensors': weightFile({ a: [1], extra: [9] }), 'x-2.safetensors': weightFile({ b: [2] }) };
  const open = (weightMap: unknown, files: object = shards): ReturnType<typeof openWeights> =>
    openWeights(memoryFolder({ ...files, 'model.safetensors.index.json': index(weightMap) }));

  it('are one source; tensors that the index does not list are left out', async () => {
    const source = await open({ a: 'x-1.safetensors', b: 'x-2.safetensors' });
    expect([...source.tensors.keys()]).toEqual(['a', 'b']);
    expect(source.tensors.get('b')?.file).toBe('x-2.safetensors');
    expect(new Float32Array((await source.read('b')).buffer)[0]).toBe(2);
    await expect(source.read('extra')).rejects.toThrow(/no tensor 'extra'/);
  });

  it.each([
    ['a file that is not there', { a: 'x-3.safetensors' }, /x-3\.safetensors, which is not in/],
    ['a tensor that is in another file', { a: 'x-2.safetensors' }, /'a' is in x-2\.safetensors/],
    ['a tensor that is nowhere', { a: 'x-1.safetensors', c: 'x-2.safetensors' }, /'c' is in x-2/],
    ['a path out of the folder', { a: '../x-1.safetensors' }, /"\.\.\/x-1\.safetensors", expected/],
    ['an absolute path', { a: '/etc/x.safetensors' }, /expected a \.safetensors file/],
    ['another host', { a: 'https://example.org/x.safetensors' }, /expected a \.safetensors file/],
    ['another kind of file', { a: 'x.bin' }, /expected a \.safetensors file/],
    ['no name', { a: 1 }, /expected a \.safetensors file/],
    ['nothing', {}, /no `weight_map`/],
    ['a list', ['a'], /no `weight_map`/],
    ['no map', undefined, /no `weight_map`/],
  ])('are refused where the index names %s', async (_what, weightMap, message) => {
    const opening = open(weightMap);
    await expect(opening).rejects.toThrow(WeightFormatError);
    await expect(opening).rejects.toThrow(message);
  });

  it('are refused where one is damaged', async () => {
    const damaged = { ...shards, 'x-2.safetensors': new Uint8Array(4) };
    await expect(open({ a: 'x-1.safetensors', b: 'x-2.safetensors' }, damaged)).rejects.toThrow(/x-2\.safetensors/);
  });
});

describe('isPlainFileName', () => {
  it.each(['model.safetensors', 'sub/model.safetensors', 'a..b', '.hidden'])('accepts %j', (name) => {
    expect(isPlainFileName(name)).toBe(true);
  });

  it.each(['', '.', '..', '../a', 'a/../b', '/a', 'a//b', 'a/', 'C:a', 'a\\b', 'a?b', 'a#b', '%2e%2e', 'a\0b', 'a\nb'])(
    'refuses %j',
    (name) => {
      expect(isPlainFileName(name)).toBe(false);
    },
  );
});
