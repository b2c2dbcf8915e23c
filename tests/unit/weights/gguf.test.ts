import { readFileSync } from 'node:fs';
import { ArgumentError, fromHalfBits, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { dequantize } from '@mambalab/kernels/reference';
import { openSafetensors, parseConfig, writeSafetensors } from '@mambalab/models';
import type { TensorSource } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { createChatTemplate } from '../../../packages/models/src/text/chat_template.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { packF16, toFloat32 } from '../../../packages/models/src/weights/convert.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import type { GgufCheckpoint } from '../../../packages/models/src/weights/gguf.ts';
import { ggufFolder, openGguf } from '../../../packages/models/src/weights/gguf.ts';
import { readGgufHeader } from '../../../packages/models/src/weights/gguf_header.ts';
import { namedSource } from '../../../packages/models/src/weights/named_source.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { rowBlocks } from '../../../packages/models/src/weights/rows.ts';
import { fixturePath } from '../../support/fixtures.ts';
import { convertGolden, GGUF_GOLDENS, goldenConfig, goldenGguf, goldenTensors } from '../../support/gguf_models.ts';
import type { GgufData, GgufFieldValues } from '../../support/gguf_writer.ts';
import { writeGguf } from '../../support/gguf_writer.ts';
import { memoryFile, memoryFolder } from './fixtures.ts';

/** Opens a model of one file, or of the parts of one. */
async function open(...files: readonly Uint8Array[]): Promise<GgufCheckpoint> {
  const numbered = files.map((bytes, index) => [`m-0000${index + 1}-of-0000${files.length}.gguf`, bytes] as const);
  const opened = await openGguf(memoryFolder(Object.fromEntries(numbered)));
  if (opened === undefined) throw new Error('no GGUF file was found');
  return opened;
}

const errorOf = async (opening: Promise<unknown>): Promise<unknown> => await opening.catch((error: unknown) => error);

const fixture = (name: string): Uint8Array => new Uint8Array(readFileSync(fixturePath(`gguf/${name}`)));

async function floatsOf({ source }: GgufCheckpoint, name: string): Promise<Float32Array> {
  const info = source.tensors.get(name);
  const bytes = new Uint8Array(await source.read(name));
  const values =
    info?.dtype === 'F16'
      ? Float32Array.from(new Uint16Array(bytes.buffer), fromHalfBits)
      : new Float32Array(bytes.buffer);
  if (info?.transposed !== true) return values;
  const [rows = 1, columns = 1] = info.shape;
  return values.map((_, place) => values[(place % columns) * rows + Math.floor(place / columns)] ?? NaN);
}

/** Factors of Falcon-H1 are in the weights of its GGUF form. */
const FOLDED = ['falcon_h1'];
/** Norms are stored with a 1 more, which takes digits from what is small. */
const isRounded = (name: string, tensor: string): boolean =>
  ['gemma3_text', 'nemotron', 'qwen3_next', 'qwen3_5_text'].includes(name) && tensor.endsWith('norm.weight');

describe.each(GGUF_GOLDENS)('%s from GGUF', (name) => {
  it('has the tensors of its safetensors form', async () => {
    const opened = await open(await goldenGguf(name));
    const golden = await goldenTensors(name);
    expect(new Set(opened.source.tensors.keys())).toEqual(new Set(golden.keys()));
    const different: string[] = [];
    for (const [tensor, { shape, data }] of golden) {
      const info = opened.source.tensors.get(tensor);
      expect([tensor, info?.shape]).toEqual([tensor, shape]);
      expect(info?.transformed ?? false).toBe(tensor.endsWith('A_log'));
      const expected = info?.transformed === true ? data.map((value) => -Math.exp(value)) : data;
      const found = await floatsOf(opened, tensor);
      const bound = isRounded(name, tensor) ? 1.2e-7 : 0;
      const isOther = expected.some((value, i) => !(Math.abs(value - (found[i] ?? NaN)) <= bound));
      if (isOther && !FOLDED.includes(name)) different.push(tensor);
    }
    expect(different).toEqual([]);
  });
});

/** Positions of models without RoPE are what the conversion makes up. */
const withoutContext = (spec: object): object => ({ ...spec, contextLength: 0 });
const whole = GGUF_GOLDENS.filter((name) => !name.startsWith('variants/') && !FOLDED.includes(name));

it.each(whole)('%s from GGUF is the same model', async (name) => {
  const { config, source } = await open(await goldenGguf(name));
  const parsed = parseConfig(config);
  expect(withoutContext(parsed.spec)).toEqual(withoutContext(parseConfig(goldenConfig(name)).spec));
  expect(planWeights(parsed, source, 'auto').every(({ dtype }) => dtype === 'f32')).toBe(true);
});

/** What becomes of the weights of a model, in float32. */
async function weightsOf(config: unknown, source: TensorSource): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const { spec } of planWeights(parseConfig(config), source, 'f32')) {
    const values: number[] = [];
    for await (const block of rowBlocks(spec, 'f32', source)) {
      if ('quants' in block) throw new Error('blocks were read');
      const stored = [...toFloat32(block.bytes, block.dtype)].map((value) => value * block.scale);
      const isLeft = spec.transform === 'negativeExp' && !block.transformed;
      values.push(...(isLeft ? stored.map((value) => -Math.exp(value)) : stored));
    }
    weights.set(spec.name, Float32Array.from(values));
  }
  return weights;
}

// What GGUF has no fields for (limits of dt, positions of Granite 4) is no part of the weights.
it.each(GGUF_GOLDENS.filter((name) => !FOLDED.includes(name)))('%s from GGUF makes the same weights', async (name) => {
  const { config, source } = await open(await goldenGguf(name));
  const tensors = await goldenTensors(name);
  const data = [...tensors].map(([tensor, { shape, data: values }]) => {
    const bytes = new Uint8Array(values.slice().buffer);
    return { name: tensor, dtype: 'F32', shape, bytes } as const;
  });
  const safetensors = await openSafetensors(memoryFile('golden', writeSafetensors(data)));
  const expected = await weightsOf(goldenConfig(name), safetensors);
  const found = await weightsOf(config, source);
  expect([...found.keys()]).toEqual([...expected.keys()]);
  for (const [weight, values] of expected) {
    const isShifted = /norm/i.test(weight) && isRounded(name, 'norm.weight');
    const difference = values.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - (found.get(weight)?.[i] ?? NaN))),
      0,
    );
    expect([weight, difference]).toEqual([weight, isShifted ? Math.min(difference, 1.2e-7) : 0]);
  }
});

it.each([
  ['variants/jamba', { kind: 'moe', experts: 3, topK: 2, normalize: false }],
  ['variants/granitemoehybrid', { kind: 'moe', experts: 3, topK: 2, order: 'topKThenSoftmax', outputScale: 0.4 }],
  ['variants/nemotron_h', { kind: 'moe', experts: 4, topK: 2, latentSize: 4, groups: 2, routedScale: 1.5 }],
  ['variants/qwen3_moe', { kind: 'moe', experts: 4, topK: 2, normalize: true }],
  ['qwen3_next', { kind: 'moe', experts: 4, topK: 2, normalize: true, shared: { gate: true } }],
])('%s from GGUF has its experts', async (name, expected) => {
  const expertsOf = (config: unknown): unknown =>
    parseConfig(config)
      .spec.layers.flatMap(({ blocks }) => blocks)
      .find(({ kind }) => kind === 'moe');
  const { config } = await open(await goldenGguf(name));
  expect(expertsOf(config)).toMatchObject(expected);
  expect(expertsOf(config)).toEqual(expertsOf(goldenConfig(name)));
});

describe('files of the Python package', () => {
  it('are what the writer of these tests writes', async () => {
    const { fields, tensors } = await convertGolden('variants/mamba2');
    const halves = tensors.map((tensor): GgufData => {
      const { name, shape, bytes } = tensor;
      if (shape.length < 2 || !name.endsWith('.weight') || /_norm\.weight$|conv1d/.test(name)) return tensor;
      const { words } = packF16(new Float32Array(bytes.slice().buffer));
      return { ...tensor, kind: 'F16', bytes: new Uint8Array(words.buffer) };
    });
    const file = fixture('mamba2-f16.gguf');
    const written = writeGguf(fields, halves);
    const { tensors: places } = await readGgufHeader(memoryFile('mamba2', file));
    for (const [name, { byteOffset, byteLength }] of places) {
      // Exponentials are not rounded alike everywhere.
      if (name.endsWith('.ssm_a')) written.set(file.subarray(byteOffset, byteOffset + byteLength), byteOffset);
    }
    expect(Buffer.compare(written, file)).toBe(0);
  });

  it.each([
    ['mamba2-f16.gguf', 'variants/mamba2', 2 ** -11],
    ['llama-q8_0.gguf', 'llama', 1 / 254],
    // A half of a step of four bits, and a whole one more beyond the last.
    ['nemotron_h-q4_0.gguf', 'nemotron_h', 1.5 / 8],
  ])('%s holds its golden as far as its kind does', async (file, name, bound) => {
    const opened = await open(fixture(file));
    const differences: number[] = [];
    for (const [tensor, { data }] of await goldenTensors(name)) {
      const found = await floatsOf(opened, tensor);
      if (opened.source.tensors.get(tensor)?.transformed === true) continue;
      const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const difference = data.reduce((most, value, i) => Math.max(most, Math.abs(value - (found[i] ?? NaN))), 0);
      differences.push(difference / largest);
    }
    expect(Math.max(...differences)).toBeLessThan(bound * 1.01);
    // It is not the golden itself.
    expect(Math.max(...differences)).toBeGreaterThan(bound / 10);
  });

  it('keep their blocks where the GPU has the same', async () => {
    const plannedKinds = async (file: string, dtype: 'auto' | 'q4' | 'f16'): Promise<Record<string, string[]>> => {
      const { config, source } = await open(fixture(file));
      const matrices = planWeights(parseConfig(config), source, dtype).filter(({ spec }) => spec.kind === 'matrix');
      const kinds = (exact: boolean): string[] => [
        ...new Set(matrices.filter(({ spec }) => (spec.exact === true) === exact).map((planned) => planned.dtype)),
      ];
      return { tables: kinds(true), others: kinds(false) };
    };
    expect(await plannedKinds('llama-q8_0.gguf', 'auto')).toEqual({ tables: ['q8'], others: ['q8'] });
    expect(await plannedKinds('llama-q8_0.gguf', 'q4')).toEqual({ tables: ['q8'], others: ['q4'] });
    expect(await plannedKinds('llama-q8_0.gguf', 'f16')).toEqual({ tables: ['f16'], others: ['f16'] });
    expect(await plannedKinds('nemotron_h-q4_0.gguf', 'auto')).toEqual({ tables: ['q4'], others: ['q4'] });
    expect(await plannedKinds('mamba2-f16.gguf', 'auto')).toEqual({ tables: ['f16'], others: ['f16'] });
  });

  it('bring a tokenizer and a template for conversations', async () => {
    const { tokenizerJson, tokenizerConfig, tokenizerProblem } = await open(fixture('llama-q8_0.gguf'));
    expect(tokenizerProblem).toBeUndefined();
    const tokenizer = createTokenizer(tokenizerJson, tokenizerConfig);
    expect(tokenizer.encode('Once upon a time')).toEqual([1, 403, 407, 261, 378]);
    const template = createChatTemplate(tokenizerConfig);
    expect(template.render([{ role: 'user', content: 'hi' }])).toBe('[user]hi</s>');
  });
});

describe('a GGUF source', () => {
  it.each([
    ['llama-q8_0.gguf', 'model.layers.1.self_attn.k_proj.weight'],
    ['nemotron_h-q4_0.gguf', 'backbone.layers.0.mixer.in_proj.weight'],
    ['mamba2-f16.gguf', 'backbone.layers.0.mixer.out_proj.weight'],
  ])('of %s reads any range of a tensor', async (file, name) => {
    const { source } = await open(fixture(file));
    const whole = await source.read(name);
    expect(whole.byteLength).toBe(source.tensors.get(name)?.byteLength);
    for (const [start, end] of [
      [0, 0],
      [2, 10],
      [126, 130],
      [whole.byteLength / 4 - 2, whole.byteLength / 2 + 6],
      [whole.byteLength - 6, whole.byteLength],
    ] as const) {
      expect(await source.read(name, start, end)).toEqual(whole.subarray(start, end));
    }
    await expect(source.read(name, 0, whole.byteLength + 1)).rejects.toThrow(ArgumentError);
    await expect(source.read('no such tensor')).rejects.toThrow(ArgumentError);
  });

  it('gives rows of blocks that are the rows of values', async () => {
    const { source } = await open(fixture('llama-q8_0.gguf'));
    const name = 'model.layers.0.self_attn.q_proj.weight';
    const { quants = new Uint32Array(), scales = new Uint16Array() } =
      (await source.readBlocks?.(name, 'q8', 3, 10)) ?? {};
    const words = new Uint32Array([...quants, ...new Uint32Array(scales.slice().buffer)]);
    const values = dequantize({ words }, { dtype: 'q8', rows: 10, width: 32, scalesAt: 80 });
    const read = new Float32Array(new Uint8Array(await source.read(name, 3 * 128, 13 * 128)).buffer);
    expect(Array.from(values)).toEqual(Array.from(read));
  });

  it('reads queries at once, though pairs stand together in the file', async () => {
    const file = memoryFile('m.gguf', fixture('llama-q8_0.gguf'));
    const opened = await openGguf({ ...memoryFolder({ 'm.gguf': '' }), file: () => Promise.resolve(file) });
    file.reads.length = 0;
    await opened?.source.read('model.layers.0.self_attn.q_proj.weight');
    expect(file.reads.map(([start, end]) => end - start)).toEqual([32 * 34]);
  });

  const small: GgufFieldValues = {
    'general.architecture': 'granitehybrid',
    'granitehybrid.block_count': 1,
    'granitehybrid.embedding_length': 32,
    'granitehybrid.feed_forward_length': 3,
    'granitehybrid.attention.head_count': 1,
    'granitehybrid.attention.head_count_kv': [1],
    'granitehybrid.attention.layer_norm_rms_epsilon': 1e-5,
    'granitehybrid.ssm.time_step_rank': 1,
    'granitehybrid.ssm.inner_size': 64,
    'granitehybrid.ssm.state_size': 16,
    'granitehybrid.ssm.conv_kernel': 4,
  };
  const matrix = (name: string, kind: 'F32' | 'Q8_0' | 'Q4_0', rows: number): GgufData => {
    const bytes = new Uint8Array(rows * { F32: 128, Q8_0: 34, Q4_0: 18 }[kind]).fill(kind === 'F32' ? 0 : 1);
    return { name, kind, shape: [rows, 32], bytes };
  };

  it.each([
    ['Q8_0', 'Q8_0', { kind: 'Q8_0', bits: 8.5, nearest: 'q8', exact: ['q8'] }],
    ['Q4_0', 'Q4_0', { kind: 'Q4_0', bits: 4.5, nearest: 'q4', exact: ['q8', 'q4'] }],
    // Quants of four bits are quants of eight.
    ['Q8_0', 'Q4_0', { kind: 'Q8_0+Q4_0', bits: 6.5, nearest: 'q8', exact: ['q8'] }],
    ['Q8_0', 'F32', undefined],
  ] as const)('puts a matrix in %s and one in %s together', async (first, second, blocks) => {
    const tensors = [
      matrix('token_embd.weight', 'F32', 4),
      matrix('blk.0.ffn_gate.weight', first, 3),
      matrix('blk.0.ffn_up.weight', second, 3),
    ];
    const { source } = await open(writeGguf(small, tensors));
    const info = source.tensors.get('model.layers.0.shared_mlp.input_linear.weight');
    expect(info).toMatchObject({ dtype: 'F32', shape: [6, 32], byteLength: 6 * 128 });
    expect(info?.blocks).toEqual(blocks);
  });

  it('refuses halves that do not fit together, and vectors in blocks', async () => {
    const embedding = matrix('token_embd.weight', 'F32', 4);
    const gate = matrix('blk.0.ffn_gate.weight', 'F32', 3);
    const up = { ...matrix('blk.0.ffn_up.weight', 'F32', 3), shape: [6, 16] };
    const halves = await errorOf(open(writeGguf(small, [embedding, gate, up])));
    expect(halves).toBeInstanceOf(WeightFormatError);
    expect(String(halves)).toMatch(
      /'blk.0.ffn_gate.weight' \(3, 32\) and 'blk.0.ffn_up.weight' \(6, 16\) do not make up/,
    );
    const norm = { ...matrix('output_norm.weight', 'Q8_0', 1), shape: [32] };
    const vector = await errorOf(open(writeGguf(small, [embedding, norm])));
    expect(vector).toBeInstanceOf(UnsupportedModelError);
    expect(String(vector)).toMatch(/Tensor 'output_norm.weight' .* is a vector in Q8_0/);
  });
});

describe('namedSource', () => {
  it.each(['mamba', 'nemotron_h', 'gpt2'])('has what the names of %s say', async (name) => {
    const { source } = await open(await goldenGguf(name));
    const named = namedSource(source);
    const golden = await goldenTensors(name);
    expect(new Set(named.tensors.keys())).toEqual(new Set(golden.keys()));
    for (const [tensor, { shape, data }] of golden) {
      expect(named.tensors.get(tensor)).toMatchObject({ shape, dtype: 'F32' });
      const found = new Float32Array(new Uint8Array(await named.read(tensor)).buffer);
      // Logarithms of exponentials lose the last digits.
      const bound = tensor.endsWith('A_log') ? 1e-6 : 0;
      expect(data.every((value, i) => Math.abs(value - (found[i] ?? NaN)) <= bound)).toBe(true);
      const part = new Float32Array(new Uint8Array(await named.read(tensor, 4, 12)).buffer);
      expect([...part]).toEqual([...found.subarray(1, 3)]);
    }
    const info = named.tensors.get([...golden.keys()].find((key) => /A_log|c_attn.weight/.test(key)) ?? '');
    expect([info?.transformed, info?.transposed]).toEqual([undefined, undefined]);
  });
});

describe('openGguf', async () => {
  const llama = await goldenGguf('llama');

  it('finds the only model of a folder, beside the projector of another file', async () => {
    expect(await openGguf(memoryFolder({ 'README.md': '' }))).toBeUndefined();
    const opened = await openGguf(memoryFolder({ 'a.gguf': llama, 'mmproj-a.gguf': llama }));
    expect(opened?.config).toMatchObject({ model_type: 'llama' });
    await expect(openGguf(memoryFolder({ 'a.gguf': llama, 'b.gguf': llama }))).rejects.toThrow(
      /several GGUF files in the test folder: a.gguf, b.gguf/,
    );
  });

  it('joins the parts of a model, and says what is missing', async () => {
    const { fields, tensors } = await convertGolden('llama');
    const part = (index: number, held: readonly GgufData[], changes: GgufFieldValues = {}): Uint8Array =>
      writeGguf({ ...(index === 0 && fields), 'split.no': index, 'split.count': 2, ...changes }, held);
    const [first, second] = [part(0, tensors.slice(0, 9)), part(1, tensors.slice(9))];
    const { source } = await open(first, second);
    expect(new Set(source.tensors.keys())).toEqual(new Set((await goldenTensors('llama')).keys()));
    expect(await source.read('lm_head.weight')).toHaveLength(128 * 128);
    for (const [files, message] of [
      [[second, first], /'general.architecture' must be a text/],
      [[first, part(1, tensors.slice(8))], /has tensor '[\w.]+' again/],
      [[first, part(0, tensors.slice(9))], /'split.no' must be 1, as its name says; found 0/],
      [[part(0, tensors, { 'split.count': 3 })], /'split.count' must be 1, the number of files; found 3/],
    ] as const) {
      expect(String(await errorOf(open(...files)))).toMatch(message);
    }
    const half = memoryFolder({ 'm-00002-of-00002.gguf': second });
    expect(String(await errorOf(openGguf(half)))).toMatch(/There is no m-00001-of-00002.gguf in the test folder/);
  });

  it('opens a folder without config.json, whose own tokenizer counts more', async () => {
    const plain = await openCheckpoint(memoryFolder({ 'm.gguf': llama }));
    expect(plain).toMatchObject({ config: { model_type: 'llama' }, tokenizerJson: undefined });
    const files = { 'm.gguf': fixture('llama-q8_0.gguf'), 'tokenizer.json': '{"own":1}' };
    const beside = await openCheckpoint(memoryFolder(files));
    expect(beside).toMatchObject({ tokenizerJson: { own: 1 }, tokenizerConfig: undefined });
    const folder = memoryFolder({ ...files, 'config.json': '{}' });
    const alone = await openCheckpoint(ggufFolder(folder, 'm.gguf'));
    expect(alone).toMatchObject({ config: { model_type: 'llama' }, tokenizerConfig: { bos_token: '<s>' } });
    await alone.source.dispose();
    expect(folder.disposed).toBe(true);
  });

  it('disposes the folder of a file that cannot be opened', async () => {
    const folder = memoryFolder({ 'm.gguf': llama.slice(0, 4000) });
    expect(await errorOf(openCheckpoint(folder))).toBeInstanceOf(WeightFormatError);
    expect(folder.disposed).toBe(true);
  });

  it('keeps the reason for which a tokenizer could not be rebuilt', async () => {
    const { fields, tensors } = await convertGolden('llama');
    const vocabulary = { 'tokenizer.ggml.model': 'rwkv', 'tokenizer.ggml.tokens': ['a', 'b'] };
    const { tokenizerJson, tokenizerProblem } = await open(writeGguf({ ...fields, ...vocabulary }, tensors));
    expect(tokenizerJson).toBeUndefined();
    expect(String(tokenizerProblem)).toMatch(/'rwkv'/);
  });

  /** Llama with other fields, or other tensors. */
  async function changed(
    fields: GgufFieldValues,
    change: (tensors: readonly GgufData[]) => readonly GgufData[] = (tensors) => tensors,
  ): Promise<Uint8Array> {
    const converted = await convertGolden('llama');
    return writeGguf({ ...converted.fields, ...fields }, change(converted.tensors));
  }

  it('has a gated norm for each group of Mamba-2', async () => {
    const { fields, tensors } = await convertGolden('mamba2');
    // Two groups of half the state: B and C are as wide as before.
    const grouped = { ...fields, 'mamba2.ssm.group_count': 2, 'mamba2.ssm.state_size': 16 };
    const { config, source } = await open(writeGguf(grouped, tensors));
    const parsed = parseConfig(config);
    expect(parsed.spec.layers).toHaveLength(3);
    expect(parsed.spec.layers[0]?.blocks).toMatchObject([{ kind: 'mamba2', groups: 2, normGroups: 2, stateSize: 16 }]);
    expect(parsed.spec).toMatchObject({ family: 'mamba2', tiedEmbeddings: true, vocabSize: 128 });
    expect(planWeights(parsed, source, 'auto').length).toBeGreaterThan(20);
    const other = { ...grouped, 'mamba2.attention.layer_norm_rms_epsilon': 1e-6 };
    await expect(open(writeGguf(other, tensors))).rejects.toThrow(
      /layer_norm_rms_epsilon' must be 1e-5; found 0.000001/,
    );
  });

  it('takes the embedding for the head of Nemotron-H where there is none', async () => {
    const { fields, tensors } = await convertGolden('nemotron_h');
    const withoutHead = tensors.filter(({ name }) => name !== 'output.weight');
    const { config, source } = await open(writeGguf(fields, withoutHead));
    expect(planWeights(parseConfig(config), source, 'auto').map(({ spec }) => spec.name)).toContain('head');
    expect(await source.read('lm_head.weight')).toEqual(await source.read('backbone.embeddings.weight'));
  });

  it('takes the temperature that a file recommends', async () => {
    const file = await changed({ 'general.sampling.temp': { type: 'f32', value: 0.7 } });
    expect((await open(file)).generationConfig).toEqual({ do_sample: true, temperature: 0.7 });
    expect((await open(llama)).generationConfig).toBeUndefined();
  });

  it('takes factors of RoPE from their tensor', async () => {
    const withFactors = async (...factors: readonly number[]): Promise<GgufCheckpoint> => {
      const bytes = new Uint8Array(Float32Array.from(factors).buffer);
      const tensor: GgufData = { name: 'rope_freqs.weight', kind: 'F32', shape: [factors.length], bytes };
      return await open(await changed({}, (tensors) => [tensor, ...tensors]));
    };
    const { config, source } = await withFactors(1, 1, 2, 8);
    expect(source.tensors.has('rope_freqs.weight')).toBe(false);
    expect(config).toMatchObject({ rope_parameters: { rope_type: 'longrope', long_factor: [1, 1, 2, 8] } });
    const [block] = parseConfig(config).spec.layers[0]?.blocks ?? [];
    expect(block).toMatchObject({ rotary: { scaling: { type: 'longrope', shortFactors: [1, 1, 2, 8] } } });
    await expect(withFactors(1, 0, 2, 8)).rejects.toThrow(/positive numbers/);
  });

  it.each<[string, GgufFieldValues, object]>([
    ['linear', { 'scaling.type': 'linear', 'scaling.factor': 4 }, { rope_type: 'linear', factor: 4 }],
    ['a factor alone', { 'scaling.factor': 4 }, { rope_type: 'linear', factor: 4 }],
    ['none', { 'scaling.type': 'none', 'scaling.factor': 4 }, { rope_type: 'default' }],
    [
      'yarn',
      { 'scaling.type': 'yarn', 'scaling.factor': 4, 'scaling.original_context_length': 128 },
      { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 128 },
    ],
    ['a part of each head', { dimension_count: 6 }, { partial_rotary_factor: 0.75 }],
  ])('reads scalings of RoPE: %s', async (_, fields, expected) => {
    const named = Object.entries(fields).map(([key, value]) => [`llama.rope.${key}`, value]);
    const { config } = await open(await changed(Object.fromEntries(named)));
    expect(config).toMatchObject({ rope_parameters: expected });
  });

  it.each<[string, GgufFieldValues, RegExp]>([
    ['an unknown architecture', { 'general.architecture': 'rwkv7' }, /'rwkv7'.*mamba, mamba2, jamba.*gptneox/],
    ['experts', { 'llama.expert_count': 8 }, /with experts/],
    ['a model that reads both ways', { 'llama.attention.causal': false }, /'llama.attention.causal' is false/],
    ['values of another size than keys', { 'llama.attention.value_length': 16 }, /keys of 8 values and values of/],
    ['another scaling', { 'llama.rope.scaling.type': 'longrope' }, /'longrope'.*none, linear, yarn/],
  ])('does not run %s', async (_, fields, message) => {
    const error = await errorOf(changed(fields).then(open));
    expect(error).toBeInstanceOf(UnsupportedModelError);
    expect(String(error)).toMatch(message);
  });

  it.each<[string, GgufFieldValues, RegExp]>([
    ['no layers', { 'llama.block_count': 0 }, /'llama.block_count' must be a positive whole number; found 0/],
    ['more layers than tensors', { 'llama.block_count': 4e9 }, /'llama.block_count' must be the number of blocks/],
    ['heads of no size', { 'llama.attention.key_length': 0 }, /'llama.attention.key_length' must be a positive/],
    ['short lists', { 'llama.attention.head_count_kv': [2, 2] }, /head_count_kv' must be 3 numbers; found "2 values"/],
    ['layers that differ', { 'llama.attention.head_count_kv': [2, 4, 2] }, /must be one number for all layers/],
  ])('refuses %s', async (_, fields, message) => {
    const error = await errorOf(changed(fields).then(open));
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(String(error)).toMatch(message);
  });

  const renamed = (from: string, to: string) => (tensors: readonly GgufData[]) =>
    tensors.map((tensor) => (tensor.name === from ? { ...tensor, name: to } : tensor));

  const oneMore = (tensors: readonly GgufData[]): readonly GgufData[] => [
    ...tensors,
    ...tensors.slice(0, 1).map((tensor) => ({ ...tensor, name: 'blk.0.new.weight' })),
  ];

  it.each([
    [
      'another name',
      renamed('blk.0.attn_q.weight', 'blk.0.attn_z.weight'),
      /lacks 1 .*layers.0.self_attn.q_proj.weight/,
    ],
    ['a block that is not counted', renamed('blk.2.attn_q.weight', 'blk.3.attn_q.weight'), /lacks 1/],
    ['no block', renamed('blk.0.attn_q.weight', 'attn_q.weight'), /lacks 1/],
    ['a block where there is none', renamed('output_norm.weight', 'blk.0.output_norm.weight'), /lacks 1/],
    [
      'the name of another',
      renamed('blk.0.attn_q.weight', 'blk.0.attn_k'),
      /Tensors .* are both '.*0.self_attn.k_proj/,
    ],
    ['no embedding', renamed('token_embd.weight', 'embd'), /no tensor 'token_embd.weight'/],
    ['one too many', oneMore, /holds 1 tensors .*: blk.0.new.weight/],
  ])('refuses tensors with %s', async (_, change, message) => {
    const planned = async (): Promise<unknown> => {
      const { config, source } = await open(await changed({}, change));
      return planWeights(parseConfig(config), source, 'auto');
    };
    const error = await errorOf(planned());
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(String(error)).toMatch(message);
  });
});
