import { readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { openSafetensors } from '@mambalab/models';
import { parseJson } from '../../packages/models/src/weights/json.ts';
import { fileInMemory } from './checkpoints.ts';
import { fixturePath, readFixture } from './fixtures.ts';
import type { GgufData, GgufFieldValues } from './gguf_writer.ts';
import { writeGguf } from './gguf_writer.ts';

// The goldens as GGUF files. tests/fixtures/tools/make_gguf.py converts them with the Python package gguf; this does the
// same without a fixture for each, and holds every tensor against what that wrote (tests/fixtures/gguf/models.json).

interface ConvertedModel {
  readonly fields: GgufFieldValues;
  /** The golden's name for each kind of tensor, `#` for the number of the block. */
  readonly names: Readonly<Record<string, string>>;
  /** Shape and CRC-32 of the float32 values. */
  readonly tensors: Readonly<Record<string, readonly [shape: readonly number[], crc: number]>>;
}

const MODELS = readFixture<Readonly<Record<string, ConvertedModel>>>('gguf/models.json');

/** Names of the goldens that there are as GGUF files. */
export const GGUF_GOLDENS: readonly string[] = Object.keys(MODELS);

/** A float32 matrix, rows of the last dimension. */
interface Values {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

type Config = Readonly<Record<string, unknown>>;

/** The layer that a conversion leaves out: a plain feed-forward layer in a model of experts. */
const LEFT_OUT: Readonly<Record<string, RegExp>> = { 'variants/nemotron_h': /layers\.3\.|^mtp\./ };

/** All tensors of a golden that its conversion takes. */
export async function goldenTensors(name: string): Promise<Map<string, Values>> {
  const source = await openSafetensors(
    fileInMemory(name, readFileSync(fixturePath(`models/${name}/model.safetensors`))),
  );
  const tensors = new Map<string, Values>();
  for (const { name: tensor, shape, dtype } of source.tensors.values()) {
    if (LEFT_OUT[name]?.test(tensor) === true) continue;
    const { buffer } = (await source.read(tensor)).slice();
    const data = dtype === 'BF16' ? widened(new Uint16Array(buffer)) : new Float32Array(buffer);
    tensors.set(tensor, { shape, data });
  }
  return tensors;
}

/** bfloat16 is the upper half of float32. */
const widened = (halves: Uint16Array): Float32Array<ArrayBuffer> =>
  new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);

export function goldenConfig(name: string): Config {
  const path = fixturePath(`models/${name}/config.json`);
  const config = parseJson(readFileSync(path, 'utf8'), path) as Config;
  if (LEFT_OUT[name] === undefined) return config;
  return { ...config, hybrid_override_pattern: 'ME*', num_hidden_layers: 3 };
}

/** What the conversion of a golden writes: fields and tensors. Those that differ from what the package wrote are an error. */
export async function convertGolden(
  name: string,
): Promise<{ readonly fields: GgufFieldValues; readonly tensors: readonly GgufData[] }> {
  const model = MODELS[name];
  if (model === undefined) throw new Error(`'${name}' is no golden with a GGUF form`);
  const stored = await goldenTensors(name);
  const config = goldenConfig(name);
  const tensors = Object.entries(model.tensors).map(([tensor, [shape, crc]]): GgufData => {
    const [, block = ''] = /^blk\.(\d+)\./.exec(tensor) ?? [];
    const source = (model.names[tensor.replace(/^blk\.\d+/, 'blk.#')] ?? '').replace('#', block);
    const data = convert({ name, config, tensor, source, stored });
    const bytes = new Uint8Array(data.slice().buffer);
    // Exponentials are not rounded alike everywhere.
    if (crc32(bytes) !== crc && !tensor.endsWith('.ssm_a'))
      throw new Error(`${name}: '${tensor}' is converted wrongly`);
    return { name: tensor, kind: 'F32', shape, bytes };
  });
  return { fields: model.fields, tensors };
}

/** A golden as a GGUF file in float32. */
export async function goldenGguf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const { fields, tensors } = await convertGolden(name);
  return writeGguf(fields, tensors);
}

interface Conversion {
  readonly name: string;
  readonly config: Config;
  /** Name in the GGUF file. */
  readonly tensor: string;
  /** Name in the golden. */
  readonly source: string;
  readonly stored: ReadonlyMap<string, Values>;
}

/** Where llama.cpp turns pairs of neighbours. */
const TURNED = /(?:^|\/)(?:llama|smollm3|granite|granitemoehybrid|bamba|nemotron_h)$/;
/** Where weights of norms are stored minus 1. */
const MINUS_ONE = ['gemma3_text', 'nemotron', 'qwen3_next', 'qwen3_5_text'];

function convert({ name, config, tensor, source, stored }: Conversion): Float32Array {
  const found = stored.get(source);
  if (found === undefined) throw new Error(`${name} has no tensor '${source}'`);
  const size = (field: string): number => Number(config[field]);
  if (source.endsWith('A_log'))
    return reorderDelta(name, config, source, { ...found, data: found.data.map(negativeExp) });
  if (MINUS_ONE.includes(name) && source.endsWith('norm.weight') && !source.endsWith('linear_attn.norm.weight')) {
    return found.data.map((value) => value + 1);
  }
  if (TURNED.test(name) && /[qk]_proj\.(?:weight|bias)$/.test(source)) {
    const heads = size(source.includes('q_proj') ? 'num_attention_heads' : 'num_key_value_heads');
    const rows = (found.shape[0] ?? 0) / heads;
    return takeRows(found, (row) => halfApart(row, rows));
  }
  if (source.endsWith('input_linear.weight')) return halfOfRows(found, tensor.includes('ffn_gate') ? 0 : 1);
  if (name === 'gpt2' && /\.(c_attn|c_proj|c_fc)\.weight$/.test(source)) return transposed(found);
  if (source.includes('query_key_value')) {
    const heads = size('num_attention_heads');
    const rows = (found.shape[0] ?? 0) / heads / 3;
    return takeRows(found, (row) => swapped(row, [3, heads, rows]));
  }
  if (name === 'falcon_h1') return scaled(config, source, found);
  if (source.includes('.experts.0.')) {
    const count = Number(config['num_experts'] ?? config['num_local_experts'] ?? config['n_routed_experts']);
    const all = Array.from({ length: count }, (_, index) =>
      stored.get(source.replace('.experts.0.', `.experts.${index}.`)),
    );
    return Float32Array.from(all.flatMap((expert) => [...(expert?.data ?? [])]));
  }
  if (source.endsWith('in_proj_qkvz.weight')) return splitByHead(config, tensor, found);
  return reorderDelta(name, config, source, found);
}

const negativeExp = (value: number): number => -Math.exp(value);

/** The row of a head's rows, pairs half a head apart, that stands at a place where pairs stand together. */
function halfApart(place: number, rows: number): number {
  const within = place % rows;
  return place - within + Math.floor(within / 2) + (within % 2) * (rows / 2);
}

/** Place i of (a, b, c) in (b, a, c). */
function swapped(place: number, [a, b, c]: readonly [number, number, number]): number {
  const [first, second] = [Math.floor(place / (b * c)), Math.floor(place / c) % b];
  return (second * a + first) * c + (place % c);
}

/** The first or second half of the rows of a matrix, or of each matrix of several. */
function halfOfRows({ shape, data }: Values, half: 0 | 1): Float32Array {
  const [rows = 1, width = 1] = shape.slice(-2);
  const size = (rows / 2) * width;
  const count = data.length / (2 * size);
  const halves = Array.from({ length: count }, (_, index) => (2 * index + half) * size);
  return Float32Array.from(halves.flatMap((first) => [...data.subarray(first, first + size)]));
}

function takeRows({ shape, data }: Values, from: (row: number) => number): Float32Array {
  const width = shape.length > 1 ? data.length / (shape[0] ?? 1) : 1;
  const result = new Float32Array(data.length);
  for (let row = 0; row < data.length / width; row++) {
    result.set(data.subarray(from(row) * width, (from(row) + 1) * width), row * width);
  }
  return result;
}

function transposed({ shape: [rows = 1, columns = 1], data }: Values): Float32Array {
  return data.map((_, place) => data[(place % rows) * columns + Math.floor(place / rows)] ?? NaN);
}

/** Falcon-H1's factors, multiplied in float32 in the order of the conversion. */
function scaled(config: Config, source: string, { shape, data }: Values): Float32Array {
  const factor = (field: string): number => Number(config[field]);
  const list = (field: string): readonly number[] => config[field] as readonly number[];
  if (source.endsWith('in_proj.weight')) {
    const [inner, shared] = [factor('mamba_d_ssm'), factor('mamba_n_groups') * factor('mamba_d_state')];
    const ends = [inner, 2 * inner, 2 * inner + shared, 2 * inner + 2 * shared, Infinity];
    const width = shape[1] ?? 1;
    const input = Math.fround(factor('ssm_in_multiplier'));
    return data.map((value, place) => {
      const part = ends.findIndex((end) => Math.floor(place / width) < end);
      return value * Math.fround(Math.fround(list('ssm_multipliers')[part] ?? 1) * input);
    });
  }
  const [gate = 1, down = 1] = list('mlp_multipliers');
  const factors: Readonly<Record<string, number>> = {
    down_proj: down,
    gate_proj: gate,
    k_proj: factor('key_multiplier') * factor('attention_in_multiplier'),
    q_proj: factor('attention_in_multiplier'),
    v_proj: factor('attention_in_multiplier'),
    o_proj: factor('attention_out_multiplier'),
    out_proj: factor('ssm_out_multiplier'),
    lm_head: factor('lm_head_multiplier'),
    embed_tokens: factor('embedding_multiplier'),
  };
  const [, part = ''] = /(\w+)\.weight$/.exec(source) ?? [];
  const own = factors[part];
  return own === undefined ? data : data.map((value) => value * Math.fround(own));
}

/** q, k and v of all heads, or z, of a tensor that has all four of each key head in turn. */
function splitByHead(config: Config, tensor: string, { shape, data }: Values): Float32Array {
  const size = (field: string): number => Number(config[`linear_${field}`]);
  const keys = size('num_key_heads');
  const width = (size('num_value_heads') / keys) * size('value_head_dim');
  const sizes = [size('key_head_dim'), size('key_head_dim'), width, width];
  const total = sizes.reduce((sum, rows) => sum + rows, 0);
  const columns = shape[1] ?? 1;
  const parts = sizes.map((rows, part) => {
    const before = sizes.slice(0, part).reduce((sum, other) => sum + other, 0);
    return Array.from({ length: keys }, (_, head) => [
      ...data.subarray((head * total + before) * columns, (head * total + before + rows) * columns),
    ]).flat();
  });
  return Float32Array.from(tensor.includes('attn_qkv') ? parts.slice(0, 3).flat() : (parts[3] ?? []));
}

/** Qwen3.5's value heads, the first of every key head first. */
function reorderDelta(name: string, config: Config, source: string, values: Values): Float32Array {
  if (name !== 'qwen3_5_text' || !source.includes('linear_attn.')) return values.data;
  const size = (field: string): number => Number(config[`linear_${field}`]);
  const keys = size('num_key_heads');
  const shared = size('num_value_heads') / keys;
  const dim = size('value_head_dim');
  const behind = 2 * keys * size('key_head_dim');
  const tiled = (rows: number): Float32Array => takeRows(values, (row) => swapped(row, [shared, keys, rows]));
  if (/in_proj_qkv\.|conv1d/.test(source)) {
    return takeRows(values, (row) => (row < behind ? row : behind + swapped(row - behind, [shared, keys, dim])));
  }
  if (source.includes('in_proj_z')) return tiled(dim);
  if (/in_proj_[ab]\.|A_log|dt_bias/.test(source)) return tiled(1);
  if (!source.includes('out_proj')) return values.data;
  const width = values.shape[1] ?? 1;
  return values.data.map((_, place) => {
    const row = Math.floor(place / width);
    return values.data[row * width + swapped(place % width, [shared, keys, dim])] ?? NaN;
  });
}
