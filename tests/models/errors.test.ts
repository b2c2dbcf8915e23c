import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { requestDevice } from '@mambalab/kernels';
import type { Device } from '@mambalab/kernels';
import {
  ArgumentError,
  ContextLengthError,
  IntegrityError,
  MambalabError,
  UnsupportedModelError,
  WebGPUUnavailableError,
  WeightFormatError,
} from '@mambalab/models';
import type { GenerateOptions, LoadOptions, LoadProgress, Prompt } from '@mambalab/models';
import { loadModel, openCache, openFolder } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { loadFrom } from '../../packages/models/src/load_model.ts';
import { copyCheckpoint, floats, setValue } from '../support/checkpoints.ts';
import type { CheckpointChanges } from '../support/checkpoints.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const llama = fixturePath('models/llama');
const mamba2 = fixturePath('models/mamba2');

type ErrorClass = abstract new (...args: never[]) => MambalabError;

/** The error that a promise rejects with, which must be of exactly this class, with a hint and these words. */
async function expectError(promise: Promise<unknown>, kind: ErrorClass, ...words: readonly string[]): Promise<void> {
  const error: unknown = await promise.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof MambalabError)) throw new Error(`expected a ${kind.name}; found ${String(error)}`);
  expect(error.constructor).toBe(kind);
  for (const word of words) expect(error.message).toContain(word);
  expect(error.hint).not.toBe('');
}

/** Loads on a platform that must not be asked for a device. */
async function expectRefusedBeforeDevice(
  path: string,
  options: LoadOptions,
  kind: ErrorClass,
  ...words: readonly string[]
): Promise<void> {
  let requests = 0;
  const platform = {
    openFolder,
    openCache,
    requestDevice: (): Promise<Device> => {
      requests += 1;
      return Promise.reject(new Error('a device was requested'));
    },
  };
  await expectError(loadFrom(platform, path, options), kind, ...words);
  expect(requests).toBe(0);
}

/** The fixture with another header: offsets are rewritten, the data stays. */
async function withHeader(change: (header: Record<string, { data_offsets: number[] }>) => void): Promise<Uint8Array> {
  const bytes = await readFile(join(llama, 'model.safetensors'));
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, { data_offsets: number[] }>;
  change(header);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.byteLength));
  return Buffer.concat([prefix, text, bytes.subarray(8 + length)]);
}

describe('loading is refused before a device is requested:', () => {
  it('a folder that does not exist', async () => {
    const path = join(llama, 'nowhere');
    await expectRefusedBeforeDevice(path, {}, ArgumentError, path);
  });

  const truncated = async (): Promise<Uint8Array> =>
    (await readFile(join(llama, 'model.safetensors'))).subarray(0, -100);
  const outOfRange = (): Promise<Uint8Array> =>
    withHeader((header) => {
      const entry = header['lm_head.weight'];
      if (entry !== undefined) entry.data_offsets = entry.data_offsets.map((offset) => offset + 10_000_000);
    });
  const overlapping = (): Promise<Uint8Array> =>
    withHeader((header) => {
      const [first, second] = Object.values(header).filter(({ data_offsets }) => data_offsets !== undefined);
      const shift = second?.data_offsets[0] ?? 0;
      for (const entry of [second]) {
        if (entry !== undefined && first !== undefined) {
          entry.data_offsets = entry.data_offsets.map((offset) => offset - shift + (first.data_offsets[0] ?? 0));
        }
      }
    });
  const norm = 'model.layers.1.input_layernorm.weight';

  it.each<[string, () => CheckpointChanges | Promise<CheckpointChanges>, ErrorClass, readonly string[]]>([
    [
      'an unknown family',
      () => ({ config: { model_type: 'unheard_of' } }),
      UnsupportedModelError,
      ['unheard_of', 'llama'],
    ],
    ['a missing field', () => ({ config: { hidden_size: null } }), UnsupportedModelError, ['hidden_size']],
    // The tensors keep their shapes: 8 heads of 4 values are as wide as 4 heads of 8.
    [
      'a head that no kernel is made for',
      () => ({ config: { num_attention_heads: 8, num_key_value_heads: 4, head_dim: 4 } }),
      UnsupportedModelError,
      ['llama', 'head', '4'],
    ],
    ['a config that is no JSON', () => ({ files: { 'config.json': '{' } }), WeightFormatError, ['config.json']],
    [
      'a truncated file',
      async () => ({ files: { 'model.safetensors': await truncated() } }),
      WeightFormatError,
      ['model.safetensors', 'outside'],
    ],
    [
      'a header cut short',
      async () => ({ files: { 'model.safetensors': (await truncated()).subarray(0, 200) } }),
      WeightFormatError,
      ['model.safetensors', 'header'],
    ],
    [
      'offsets out of range',
      async () => ({ files: { 'model.safetensors': await outOfRange() } }),
      WeightFormatError,
      ['lm_head.weight', 'outside'],
    ],
    [
      'offsets that overlap',
      async () => ({ files: { 'model.safetensors': await overlapping() } }),
      WeightFormatError,
      ['overlaps'],
    ],
    [
      'a missing tensor',
      () => ({ tensors: (tensors): unknown => tensors.delete(norm) }) as CheckpointChanges,
      WeightFormatError,
      ['lacks', norm],
    ],
    [
      'a tensor of another shape',
      () => ({ tensors: (tensors) => void tensors.set(norm, floats(norm, [16], new Float32Array(16))) }),
      WeightFormatError,
      [`${norm} is (16), expected (32)`],
    ],
    [
      'a tensor too many',
      () => ({ tensors: (tensors) => void tensors.set('extra.bias', floats('extra.bias', [1], [0])) }),
      WeightFormatError,
      ['extra.bias'],
    ],
    [
      'weights that are whole numbers',
      () => ({
        tensors: (tensors) =>
          void tensors.set(norm, { name: norm, dtype: 'I32', shape: [32], bytes: new Uint8Array(128) }),
      }),
      UnsupportedModelError,
      [norm, 'I32'],
    ],
    [
      'a generation configuration of another kind',
      () => ({ files: { 'generation_config.json': '{"do_sample": "yes"}' } }),
      UnsupportedModelError,
      ['generation_config.json', 'do_sample'],
    ],
    ['a tokenizer that is none', () => ({ files: { 'tokenizer.json': '[]' } }), WeightFormatError, ['tokenizer.json']],
  ])('%s', async (_name, changes, kind, words) => {
    const path = await copyCheckpoint('llama', await changes());
    await expectRefusedBeforeDevice(path, {}, kind, ...words);
  });

  it.each<[string, LoadOptions, string]>([
    ['a dtype', { dtype: 'q9' as never }, "'q9'"],
    ['a context length', { contextLength: 0 }, "'contextLength' is 0"],
    ['half a token of context', { contextLength: 1.5 }, "'contextLength' is 1.5"],
    ['a dtype of caches', { cacheDtype: 'bf16' as never }, "'bf16'"],
  ])('%s', async (_name, options, words) => {
    await expectRefusedBeforeDevice(llama, options, ArgumentError, words);
  });

  it('a signal that was aborted already', async () => {
    const reason = new Error('changed my mind');
    const platform = {
      openFolder,
      openCache,
      requestDevice: (): Promise<Device> => Promise.reject(new Error('requested')),
    };
    await expect(loadFrom(platform, llama, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('loading fails and leaves nothing behind:', () => {
  it('no adapter', async () => {
    const gpu = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
    const load = loadFrom({ openFolder, openCache, requestDevice: () => requestDevice({ gpu }) }, llama);
    await expectError(load, WebGPUUnavailableError, 'no adapter');
  });

  it('weights that are not numbers', async () => {
    const name = 'model.layers.2.mlp.down_proj.weight';
    const path = await copyCheckpoint('llama', { tensors: (tensors) => setValue(tensors, name, 77, NaN) });
    const before = device.allocatedBytes;
    await expectError(loadModel(path, { device }), IntegrityError, name);
    expect(device.allocatedBytes).toBe(before);
  });

  it('weights beyond the range of f16', async () => {
    const name = 'model.embed_tokens.weight';
    const path = await copyCheckpoint('llama', { tensors: (tensors) => setValue(tensors, name, 0, 7e4) });
    const before = device.allocatedBytes;
    await expectError(loadModel(path, { device, dtype: 'f16' }), IntegrityError, name, 'f16');
    expect(device.allocatedBytes).toBe(before);
  });

  it('an abort in the middle', async () => {
    const before = device.allocatedBytes;
    const abort = new AbortController();
    const reason = new Error('no longer needed');
    const onProgress = ({ loadedBytes, totalBytes }: LoadProgress): void => {
      if (loadedBytes > totalBytes / 2) abort.abort(reason);
    };
    await expect(loadModel(mamba2, { device, signal: abort.signal, onProgress })).rejects.toBe(reason);
    expect(device.allocatedBytes).toBe(before);
  });

  it('an abort while shaders compile', async () => {
    const before = device.allocatedBytes;
    const abort = new AbortController();
    const reason = new Error('no longer needed');
    const onProgress = ({ phase }: LoadProgress): void => {
      if (phase === 'compile') abort.abort(reason);
    };
    await expect(loadModel(mamba2, { device, signal: abort.signal, onProgress })).rejects.toBe(reason);
    expect(device.allocatedBytes).toBe(before);
  });

  it('a listener that throws', async () => {
    const before = device.allocatedBytes;
    const error = new Error('of the listener');
    const onProgress = (): void => {
      throw error;
    };
    await expect(loadModel(mamba2, { device, onProgress })).rejects.toBe(error);
    expect(device.allocatedBytes).toBe(before);
  });
});

it('progress only grows and ends at the total', async () => {
  const seen: LoadProgress[] = [];
  const before = device.allocatedBytes;
  const model = await loadModel(mamba2, { device, onProgress: (progress) => seen.push(progress) });
  expect(seen.length).toBeGreaterThan(5);
  for (const [index, { loadedBytes, totalBytes }] of seen.entries()) {
    expect(loadedBytes).toBeGreaterThanOrEqual(seen[index - 1]?.loadedBytes ?? 1);
    expect(totalBytes).toBe(seen[0]?.totalBytes);
  }
  const last = seen[seen.length - 1];
  expect(last?.phase).toBe('compile');
  expect(last?.loadedBytes).toBe(last?.totalBytes);
  expect(seen.filter(({ phase }) => phase === 'compile')).toHaveLength(1);
  await model.logits([1, 2, 3]);
  expect(device.allocatedBytes).toBeGreaterThan(before);
  model.dispose();
  expect(device.allocatedBytes).toBe(before);
});

describe('using a model', async () => {
  const model = await loadModel(llama, { device, contextLength: 12 });
  const prompt = [5, 6, 7];
  const run = (given: Prompt, options: GenerateOptions = {}): Promise<unknown> =>
    model.generate(given, { maxTokens: 2, ...options }).result;

  it.each<[string, () => Promise<unknown>, ErrorClass, readonly string[]]>([
    ['a prompt that is too long', () => run(Array.from({ length: 13 }, () => 1)), ContextLengthError, ['13', '12']],
    [
      'logits of too many tokens',
      () => model.logits(Array.from({ length: 13 }, () => 1)),
      ContextLengthError,
      ['13', '12'],
    ],
    ['a token beyond the vocabulary', () => run([1, 128]), ArgumentError, ['Token 1 is 128', '127']],
    ['a negative token', () => model.logits([-1]), ArgumentError, ['-1']],
    ['half a token', () => model.logits([1.5]), ArgumentError, ['1.5']],
    ['no prompt', () => run([]), ArgumentError, ['no token']],
    ['logits of nothing', () => model.logits([], { positions: 'all' }), ArgumentError, ['no token']],
    ['no tokens to write', () => run(prompt, { maxTokens: 0 }), ArgumentError, ["'maxTokens' is 0"]],
    ['a negative temperature', () => run(prompt, { temperature: -1 }), ArgumentError, ["'temperature' is -1"]],
    ['a seed with a fraction', () => run(prompt, { seed: 0.5 }), ArgumentError, ["'seed' is 0.5"]],
    ['a text without a tokenizer', () => run('Once'), UnsupportedModelError, ['tokenizer.json']],
    [
      'a conversation without a template',
      () => run([{ role: 'user', content: 'Hello' }]),
      UnsupportedModelError,
      ['chat template'],
    ],
  ])('refuses %s, and works on', async (_name, use, kind, words) => {
    await expectError(use(), kind, ...words);
    const { tokens } = await model.generate(prompt, { maxTokens: 2, ignoreEos: true }).result;
    expect(tokens).toHaveLength(2);
  });

  it('a prompt of exactly the context gives one token', async () => {
    const full = Array.from({ length: 12 }, (_, index) => index + 3);
    const { tokens, finishReason } = await model.generate(full, { maxTokens: 5, ignoreEos: true }).result;
    expect([tokens.length, finishReason]).toEqual([1, 'length']);
  });

  it('nothing works after dispose, and disposing twice is harmless', async () => {
    const other = await loadModel(mamba2, { device });
    const started = other.generate(prompt, { maxTokens: 50, ignoreEos: true })[Symbol.asyncIterator]();
    await started.next();
    other.dispose();
    other.dispose();
    await expectError(other.logits([1]), ArgumentError, 'disposed');
    await expectError(other.generate([1]).result, ArgumentError, 'disposed');
    // What was being written fails too, once the tokens that had arrived are read.
    const rest = async (): Promise<void> => {
      for (let next = await started.next(); next.done !== true; next = await started.next());
    };
    await expectError(rest(), ArgumentError, 'disposed');
    // The device serves others as before.
    expect((await model.generate(prompt, { maxTokens: 2, ignoreEos: true }).result).tokens).toHaveLength(2);
  });

  it('a model that is disposed while a text begins frees that text as well', async () => {
    const before = device.allocatedBytes;
    const other = await loadModel(mamba2, { device });
    const result = other.generate(prompt, { maxTokens: 3 }).result;
    other.dispose();
    await expectError(result, ArgumentError, 'disposed');
    expect(device.allocatedBytes).toBe(before);
  });
});

describe('aborting', async () => {
  const model = await loadModel(mamba2, { device });
  const prompt = [5, 6, 7];
  const options: GenerateOptions = { maxTokens: 8, ignoreEos: true };
  const expected = (await model.generate(prompt, options).result).tokens;
  const reason = new Error('enough');

  it('before it starts', async () => {
    await expect(model.generate(prompt, { ...options, signal: AbortSignal.abort(reason) }).result).rejects.toBe(reason);
    await expect(model.logits(prompt, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await model.generate(prompt, options).result).tokens).toEqual(expected);
  });

  it('while the prompt is processed', async () => {
    const abort = new AbortController();
    const { result } = model.generate(prompt, { ...options, signal: abort.signal });
    abort.abort(reason);
    await expect(result).rejects.toBe(reason);
    expect((await model.generate(prompt, options).result).tokens).toEqual(expected);
  });

  it('while it writes', async () => {
    const abort = new AbortController();
    const text = model.generate(prompt, { ...options, signal: abort.signal });
    const tokens: number[] = [];
    const read = async (): Promise<void> => {
      for await (const { token } of text) {
        tokens.push(token);
        if (tokens.length === 3) abort.abort(reason);
      }
    };
    await expect(read()).rejects.toBe(reason);
    await expect(text.result).rejects.toBe(reason);
    expect(tokens).toEqual(expected.slice(0, 3));
    expect((await model.generate(prompt, options).result).tokens).toEqual(expected);
  });
});
