import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { packagesOf } from '../../../packages/bench/src/peers/import_package.ts';
import { measurePeer } from '../../../packages/bench/src/peers/measure.ts';
import { onnxruntime } from '../../../packages/bench/src/peers/onnxruntime.ts';
import type { ImportPackage, PeerRequest } from '../../../packages/bench/src/peers/peer.ts';
import { transformersJs } from '../../../packages/bench/src/peers/transformers_js.ts';
import { webLlm } from '../../../packages/bench/src/peers/web_llm.ts';
import { wllama } from '../../../packages/bench/src/peers/wllama.ts';

const PEERS = [transformersJs, webLlm, wllama, onnxruntime];

/** A node_modules with one package of these sources. */
function install(name: string, files: Readonly<Record<string, string>>): ImportPackage {
  const folder = mkdtempSync(join(tmpdir(), 'peers-'));
  const root = join(folder, 'node_modules', name);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(root, file, '..'), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  const exports = { '.': { browser: './none.js', node: { import: './index.mjs', require: './index.cjs' } } };
  writeFileSync(join(root, 'package.json'), JSON.stringify({ name, version: '9.8.7', exports }));
  return packagesOf(folder);
}

const request = (importPackage: ImportPackage): PeerRequest => ({
  model: 'some/model',
  prompt: 'a b c',
  newTokens: 5,
  device: 'cpu',
  importPackage,
});

afterEach(() => vi.unstubAllGlobals());

it.each(PEERS)('$name is left out where it is not installed', async (peer) => {
  const result = await measurePeer(peer, request(packagesOf(tmpdir())), 2);
  expect(result).toMatchObject({ status: 'skipped', engine: peer.name });
  expect(result).toHaveProperty('reason', expect.stringContaining('is not installed'));
});

it.each(PEERS)('$name is left out where its package is not what it was', async (peer) => {
  vi.stubGlobal('Worker', Object);
  vi.stubGlobal('navigator', { gpu: {} });
  const names = ['@huggingface/transformers', '@mlc-ai/web-llm', '@wllama/wllama', 'onnxruntime-node'];
  const importPackage = install(names[PEERS.indexOf(peer)] ?? '', { 'index.mjs': 'export const other = 1;' });
  const result = await measurePeer(peer, request(importPackage), 2);
  expect(result).toMatchObject({ status: 'skipped' });
  expect(result).toHaveProperty('reason', expect.stringMatching(/version 9\.8\.7 has no/));
});

const TRANSFORMERS = `
  export const calls = [];
  export const AutoTokenizer = { from_pretrained: async (id) => (text) => ({ input_ids: { dims: [1, text.split(' ').length] } }) };
  export const AutoModelForCausalLM = { from_pretrained: async (id, { device }) => ({
    generate: async ({ input_ids, max_new_tokens, min_new_tokens, do_sample, streamer }) => {
      calls.push({ id, device, min_new_tokens, do_sample });
      streamer.put([1]);
      for (let i = 0; i < max_new_tokens; i++) { await new Promise((done) => setTimeout(done, 2)); streamer.put([1]); }
      streamer.end();
    },
    dispose: async () => calls.push('disposed'),
  }) };`;

describe('a peer that is there', () => {
  it('is run once for nothing, then measured, and freed', async () => {
    const importPackage = install('@huggingface/transformers', { 'index.mjs': TRANSFORMERS });
    const result = await measurePeer(transformersJs, request(importPackage), 2);
    expect(result).toMatchObject({
      status: 'measured',
      version: '9.8.7',
      promptTokens: 3,
      newTokens: 5,
      device: 'cpu',
    });
    if (result.status !== 'measured') return;
    expect(result.millisecondsPerToken.median).toBeGreaterThan(1.5);
    expect(result.millisecondsPerToken.samples).toBe(2);
    expect(result.prefillTokensPerSecond).toBeCloseTo(3000 / result.prefillMilliseconds.median);
    const { module } = await importPackage('@huggingface/transformers');
    const run = { id: 'some/model', device: 'cpu', min_new_tokens: 5, do_sample: false };
    expect(module['calls']).toEqual([run, run, run, 'disposed']);
  });

  it('fails where it writes fewer tokens than it was asked for', async () => {
    const short = TRANSFORMERS.replace('i < max_new_tokens', 'i < 3');
    const importPackage = install('@huggingface/transformers', { 'index.mjs': short });
    expect(await measurePeer(transformersJs, request(importPackage), 1)).toEqual({
      status: 'failed',
      engine: 'transformers.js',
      reason: 'it wrote 3 tokens instead of 5',
    });
  });

  it('streams from WebLLM and wllama in a browser, and needs one', async () => {
    const chunks = `(async function* () {
      for (let i = 0; i < max_tokens; i++) yield { choices: [{ text: 'x', finish_reason: null }] };
      yield { choices: [], usage: { prompt_tokens: 4 } };
    })()`;
    const mlc = install('@mlc-ai/web-llm', {
      'index.mjs': `export const CreateMLCEngine = async () => ({
        completions: { create: async ({ max_tokens }) => ${chunks} }, resetChat: async () => {}, unload: async () => {} });`,
    });
    const llama = install('@wllama/wllama', {
      'index.mjs': `export class Wllama { constructor(paths) { if (!paths.default) throw new Error('paths'); }
        async loadModelFromUrl() {} getEOS() { return 2; } async exit() {}
        async createCompletion({ max_tokens }) { return ${chunks}; } }`,
      'esm/wasm-from-cdn.js': 'module.exports = { default: "wasm" };',
    });
    vi.stubGlobal('navigator', {});
    expect(await measurePeer(webLlm, request(mlc), 1)).toMatchObject({ status: 'skipped' });
    expect(await measurePeer(wllama, request(llama), 1)).toMatchObject({ status: 'skipped' });
    vi.stubGlobal('navigator', { gpu: {} });
    vi.stubGlobal('Worker', Object);
    expect(await measurePeer(webLlm, request(mlc), 1)).toMatchObject({ status: 'measured', promptTokens: 4 });
    expect(await measurePeer(wllama, request(llama), 1)).toMatchObject({ status: 'measured', promptTokens: 4 });
  });

  it('keeps the caches of an onnxruntime graph from step to step', async () => {
    const importPackage = install('onnxruntime-node', {
      'index.mjs': `export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
        export const seen = [];
        export const InferenceSession = { create: async () => ({
          inputNames: ['input_ids', 'attention_mask', 'past_key_values.0.key'],
          inputMetadata: [{ name: 'past_key_values.0.key', type: 'float32', shape: ['batch', 2, 'past', 4] }],
          run: async (feeds) => {
            const past = feeds['past_key_values.0.key'].dims[2];
            seen.push([feeds.input_ids.dims[1], Number(feeds.input_ids.data[0]), feeds.attention_mask.dims[1], past]);
            const count = past + feeds.input_ids.dims[1];
            return { logits: { dims: [1, 1, 4], data: [0, 1, 9, 2] }, 'present.0.key': { dims: [1, 2, count, 4] } };
          },
          release: async () => {} }) };`,
    });
    expect(await measurePeer(onnxruntime, request(importPackage), 1)).toMatchObject({
      promptTokens: 128,
      newTokens: 5,
    });
    const { module } = await importPackage('onnxruntime-node');
    expect((module['seen'] as number[][]).slice(0, 3)).toEqual([
      [128, 1, 128, 0],
      [1, 2, 129, 128],
      [1, 2, 130, 129],
    ]);
  });
});
