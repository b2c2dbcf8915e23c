import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Model } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { goldenGguf } from '../support/gguf_models.ts';
import { expectGolden, goldenOf, loadGolden } from '../support/goldens.ts';
import { openTestDevice } from '../support/gpu.ts';

// That a GGUF file gives the tensors and the configuration of its safetensors form is tested without a GPU, for every
// architecture. Here what is computed with them.

const device = await openTestDevice();

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mambalab-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function logitsOf(model: Model, name: string): Promise<Float32Array> {
  const [tokens = []] = (await goldenOf(name)).inputIds;
  return await model.logits(tokens, { positions: 'all' });
}

/** Largest difference over the largest |logit|. */
function errorOf(actual: Float32Array, expected: Float32Array): number {
  const difference = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? NaN))), 0);
  return difference / expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** In a long run, of every kind of block. */
const MORE = ['mamba', 'jamba', 'granitemoehybrid', 'lfm2', 'qwen3', 'gemma3_text'];
const COMPARED = ['mamba2', 'llama', 'nemotron_h', ...(process.env['MAMBALAB_LONG'] === '1' ? MORE : [])];

it.each(COMPARED)('%s from GGUF has the logits of its safetensors form', async (name) => {
  const path = join(folder, `${name}.gguf`);
  await writeFile(path, await goldenGguf(name));
  using model = await loadModel(path, { device });
  using safetensors = await loadGolden(device, name);
  expect(await logitsOf(model, name)).toEqual(await logitsOf(safetensors, name));
});

it('falcon_h1 from GGUF, with its factors in its weights, computes what transformers computes', async () => {
  using model = await loadModel(new File([await goldenGguf('falcon_h1')], 'm.gguf'), { device });
  await expectGolden(model, await goldenOf('falcon_h1'));
});

it.each([
  ['llama-q8_0.gguf', 'llama', 'q8', 0.02],
  ['nemotron_h-q4_0.gguf', 'nemotron_h', 'q4', 0.3],
] as const)('%s gives the same in blocks and in float32, near its golden', async (file, name, dtype, bound) => {
  const path = fixturePath(`gguf/${file}`);
  using blocks = await loadModel(path, { device, cacheDtype: 'f32' });
  using plain = await loadModel(path, { device, dtype: 'f32' });
  const kinds = [...blocks.runtime.constants.values()].map((tensor) => tensor.dtype);
  expect(new Set(kinds)).toEqual(new Set([dtype, 'f32']));
  expect([...plain.runtime.constants.values()].every((tensor) => tensor.dtype === 'f32')).toBe(true);
  const [inBlocks, inFloats] = [await logitsOf(blocks, name), await logitsOf(plain, name)];
  expect(errorOf(inBlocks, inFloats)).toBeLessThan(1e-5);
  const [expected = new Float32Array()] = (await goldenOf(name)).logits;
  expect(errorOf(inFloats, expected)).toBeLessThan(bound);
  expect(errorOf(inFloats, expected)).toBeGreaterThan(1e-4);
});

it('answers with the tokenizer of a file, and says what is wrong with one that cannot be rebuilt', async () => {
  const bytes = await readFile(fixturePath('gguf/llama-q8_0.gguf'));
  using model = await loadModel(new File([bytes], 'm.gguf'), { device });
  expect(model.tokenizer.encode('Once upon a time')).toEqual([1, 403, 407, 261, 378]);
  const changed = Buffer.from(bytes);
  // Another kind of tokenizer.
  changed.write('gpt-2', changed.indexOf('tokenizer.ggml.model') + 20 + 12);
  using other = await loadModel(new File([changed], 'm.gguf'), { device });
  expect(() => other.tokenizer).toThrow(/tokenizer of the model 'gpt-2'/);
  expect(await other.logits([1, 2, 3])).toHaveLength(128);
});
