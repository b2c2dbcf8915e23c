import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArgumentError } from '@mambalab/models';
import type { Model } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { convert } from '../../packages/models/src/cli/convert.ts';
import { quality } from '../../packages/models/src/cli/quality.ts';
import { temporaryFolder } from '../support/caches.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

// Commands request a device and dispose of it; here all get the same one, whose shaders are compiled once.
vi.mock(import('@mambalab/kernels/node'), async (importOriginal) => {
  const { withSharedDevice } = await import('../support/commands.ts');
  return withSharedDevice(await importOriginal());
});

const device = await openTestDevice();
const stories = fixturePath('models/stories260k');
let out = '';

beforeEach(() => {
  out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
});

const load = (source: string, options: Parameters<typeof loadModel>[1] = {}): Promise<Model> =>
  loadModel(source, { device, warmUp: false, contextLength: 64, ...options });

const quantization = { method: 'search', tensors: { embedding: 'q8', '*.down_proj.weight': 'exact' } } as const;

const quantizationFlags = { method: quantization.method, tensor: quantization.tensors };

describe('a model in blocks', () => {
  it('computes what quantizing on load computes, to the last bit', async () => {
    const target = join(await temporaryFolder(), 'out');
    await convert(stories, target, { dtype: 'q4', ...quantizationFlags, shardSize: 4e9 });
    using onLoad = await load(stories, { dtype: 'q4', quantization });
    using files = await load(target);
    expect(files.memory().weightsBytes).toBe(onLoad.memory().weightsBytes);
    const prompt = onLoad.tokenizer.encode('Once upon a time');
    const logits = await files.logits(prompt);
    expect(logits).toEqual(await onLoad.logits(prompt));
    expect(new Set(logits).size).toBeGreaterThan(100);
  });

  it('is refused with rules that do not go with its dtype, before a device is asked for', async () => {
    await expect(load(stories, { quantization })).rejects.toThrow(ArgumentError);
  });
});

describe('mambalab quality', () => {
  const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.';
  const flags = { reference: stories, dtype: 'q4', referenceDtype: 'f32', chunk: 16, maxTokens: 24 } as const;

  it('says how far quantization moves predictions', async () => {
    const file = join(await temporaryFolder(), 'text.txt');
    await writeFile(file, text);
    await quality(stories, { ...flags, text: file, ...quantizationFlags, json: true });
    const measured = JSON.parse(out) as Record<string, number>;
    // Every part begins as texts do, and its first token is given.
    expect(measured['tokens']).toBe(24);
    expect(measured['meanKl']).toBeGreaterThan(1e-3);
    expect(measured['meanKl']).toBeLessThan(0.5);
    expect(measured['topOneAgreement']).toBeGreaterThan(0.5);
    out = '';
    await quality(stories, { ...flags, text: file, dtype: 'f32' });
    expect(out).toMatch(/^predictions {5}24\nKL divergence {3}0(\.0+)? nats a token\nsame best token 100\.0 %\n/);
    expect(out).toMatch(/perplexity {6}([\d.]+) \(reference \1\)\n$/);
    expect(Number(/[\d.]+(?= \()/.exec(out)?.[0])).toBeCloseTo(measured['referencePerplexity'] ?? NaN, 3);
  });

  it('says which text it cannot read', async () => {
    await expect(quality(stories, { ...flags, text: '/nowhere/text.txt' })).rejects.toThrow(/text\.txt cannot be read/);
  });
});
