// Longer than most files: every reader in one list.
import { readFileSync } from 'node:fs';
import { parseConfig } from '@mambalab/models';
import { loadFrom } from '../../../packages/models/src/load_model.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { openWeights } from '../../../packages/models/src/weights/folder.ts';
import { openGguf } from '../../../packages/models/src/weights/gguf.ts';
import { parseJson } from '../../../packages/models/src/weights/json.ts';
import { openMegatron } from '../../../packages/models/src/weights/megatron.ts';
import { readPickle } from '../../../packages/models/src/weights/pickle.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { rowBlocks } from '../../../packages/models/src/weights/rows.ts';
import { openSafetensors, writeSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import { SOURCE_DTYPE_BITS } from '../../../packages/models/src/weights/source.ts';
import type { TensorSource } from '../../../packages/models/src/weights/source.ts';
import { openTorchFile, openTorchWeights } from '../../../packages/models/src/weights/torch_file.ts';
import { allowsTorchGlobal } from '../../../packages/models/src/weights/torch_pickle.ts';
import { fixturePath, readText } from '../fixtures.ts';
import { convertGolden } from '../gguf_models.ts';
import type { GgufFieldValues } from '../gguf_writer.ts';
import { writeGguf } from '../gguf_writer.ts';
import type { Random } from '../numbers.ts';
import { guardedFile, guardedFolder } from './guard.ts';
import { joinBytes, mutateBytes, mutateJson, mutateValue } from './mutations.ts';
import type { FuzzInput, FuzzTarget } from './run.ts';

// The readers that are given files of strangers. What each target loads is as much as can be loaded without a GPU.

/** Reads every tensor, and holds sizes against what was announced. */
async function readAll(source: TensorSource): Promise<void> {
  for (const { name, shape, dtype, byteLength } of source.tensors.values()) {
    const expected = shape.reduce((product, size) => product * size, SOURCE_DTYPE_BITS[dtype]) / 8;
    const { byteLength: found } = await source.read(name);
    if (found !== byteLength || found !== expected) {
      throw new RangeError(`'${name}' has ${found} bytes, announced ${byteLength}, by its shape ${expected}`);
    }
  }
}

const bytesInput = (bytes: Uint8Array, load: (bytes: Uint8Array) => Promise<void>): FuzzInput => ({
  size: bytes.byteLength,
  load: () => load(bytes),
});

const textInput = (text: string, load: (text: string) => Promise<void>): FuzzInput => ({
  size: text.length,
  load: () => load(text),
});

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const readBytes = (name: string): Uint8Array => new Uint8Array(readFileSync(fixturePath(name)));

/** A JSON file, changed as a value and as text. */
function jsonTarget(name: string, refused: number, text: string, load: (text: string) => Promise<void>): FuzzTarget {
  const value: unknown = JSON.parse(text);
  return {
    name,
    refused,
    original: textInput(text, load),
    mutate: (random) => textInput(mutateJson(value, random), load),
  };
}

function safetensors(): FuzzTarget {
  const load = async (bytes: Uint8Array): Promise<void> =>
    await readAll(await openSafetensors(guardedFile('m', bytes)));
  const original = writeSafetensors(
    [
      { name: 'a.weight', dtype: 'F32', shape: [2, 3], bytes: new Uint8Array(24) },
      { name: 'b', dtype: 'BF16', shape: [5], bytes: new Uint8Array(10) },
      { name: 'scalar', dtype: 'I64', shape: [], bytes: new Uint8Array(8) },
      { name: 'empty', dtype: 'F16', shape: [0, 4], bytes: new Uint8Array(0) },
    ],
    { format: 'pt' },
  );
  const headerLength = new DataView(original.buffer).getUint32(0, true);
  const header: unknown = JSON.parse(new TextDecoder().decode(original.subarray(8, 8 + headerLength)));
  const data = original.subarray(8 + headerLength);
  const withHeader = (random: Random): Uint8Array => {
    const json = encode(mutateJson(header, random));
    const length = new Uint8Array(8);
    const wrong = random.integer(0, 9) === 0 ? random.integer(-2, 2) : 0;
    new DataView(length.buffer).setBigInt64(0, BigInt(json.byteLength + wrong), true);
    return joinBytes(length, json, data);
  };
  return {
    name: 'safetensors',
    refused: 0.7,
    original: bytesInput(original, load),
    mutate: (random) =>
      bytesInput(random.integer(0, 1) === 0 ? mutateBytes(original, random) : withHeader(random), load),
  };
}

function safetensorsIndex(): FuzzTarget {
  const shard = (name: string): Uint8Array =>
    writeSafetensors([{ name, dtype: 'F32', shape: [2], bytes: new Uint8Array(8) }]);
  const shards = { 'm-1.safetensors': shard('a'), 'm-2.safetensors': shard('b'), 'sub/m-3.safetensors': shard('c') };
  const map = { a: 'm-1.safetensors', b: 'm-2.safetensors', c: 'sub/m-3.safetensors' };
  const text = JSON.stringify({ metadata: { total_size: 24 }, weight_map: map });
  const load = async (index: string): Promise<void> =>
    await readAll(await openWeights(guardedFolder({ ...shards, 'model.safetensors.index.json': index })));
  return jsonTarget('index', 0.5, text, load);
}

async function loadGguf(bytes: Uint8Array): Promise<void> {
  const opened = await openGguf(guardedFolder({ 'm.gguf': bytes }));
  if (opened === undefined) throw new RangeError('the file was not found');
  const { config, source, tokenizerJson, tokenizerConfig } = opened;
  if (tokenizerJson !== undefined) useTokenizer(tokenizerJson, tokenizerConfig);
  for (const { spec, dtype } of planWeights(parseConfig(config), source, 'auto')) {
    let rows = 0;
    for await (const block of rowBlocks(spec, dtype, source)) rows += block.rows;
    const all = spec.shape.reduce((product, size) => product * size, 1);
    const width = spec.kind === 'matrix' ? (spec.shape[spec.shape.length - 1] ?? 1) : 1;
    if (rows !== all / width) throw new RangeError(`${spec.name} has ${rows} rows`);
  }
}

/** A file with a vocabulary of scores: bytes are changed, those in front of the tensors above all. */
function ggufBytes(): FuzzTarget {
  const original = readBytes('gguf/llama-q8_0.gguf');
  return {
    name: 'gguf with scores',
    refused: 0.5,
    original: bytesInput(original, loadGguf),
    mutate: (random) => bytesInput(mutateBytes(original, random, 20_000), loadGguf),
  };
}

/** A file with a vocabulary of merges: its fields and its list of tensors are changed too, and written anew. */
async function ggufFields(): Promise<FuzzTarget> {
  const { fields, tensors } = await convertGolden('nemotron_h');
  const all: GgufFieldValues = {
    ...fields,
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'llama-bpe',
    'tokenizer.ggml.tokens': ['a', 'b', 'ab', '<s>', 'O', 'n'],
    'tokenizer.ggml.token_type': [1, 1, 1, 3, 1, 1],
    'tokenizer.ggml.merges': ['a b'],
    'tokenizer.ggml.bos_token_id': 3,
  };
  const original = writeGguf(all, tensors);
  const described = { fields: all, tensors: tensors.map(({ name, kind, shape }) => ({ name, kind, shape })) };
  const rewritten = (random: Random): Uint8Array => {
    const value = mutateValue(described, random) as typeof described;
    try {
      return writeGguf(
        value.fields,
        tensors.map((tensor, index) => ({ ...tensor, ...value.tensors[index] })),
      );
    } catch {
      // What the writer has no bytes for.
      return mutateBytes(original, random, 5000);
    }
  };
  return {
    name: 'gguf with merges',
    refused: 0.4,
    original: bytesInput(original, loadGguf),
    mutate: (random) =>
      bytesInput(random.integer(0, 1) === 0 ? mutateBytes(original, random, 5000) : rewritten(random), loadGguf),
  };
}

async function pickle(): Promise<FuzzTarget> {
  const load = (bytes: Uint8Array): Promise<void> => {
    readPickle(bytes, { file: 'm.bin', allows: allowsTorchGlobal });
    return Promise.resolve();
  };
  const original = await structureOf(readBytes('torch/mamba2.bin'));
  return {
    name: 'pickle',
    refused: 0.5,
    original: bytesInput(original, load),
    mutate: (random) => bytesInput(mutateBytes(original, random), load),
  };
}

/** The pickle in a file of PyTorch. */
async function structureOf(bytes: Uint8Array): Promise<Uint8Array> {
  const reads: Uint8Array[] = [];
  const file = guardedFile('m.bin', bytes);
  await openTorchFile({
    ...file,
    read: async (start, end) => {
      const read = await file.read(start, end);
      reads.push(read);
      return read;
    },
  });
  const found = reads.at(-1);
  if (found === undefined || found[0] !== 0x80) throw new RangeError('The last read was not that of the pickle.');
  return found;
}

function torchFile(): FuzzTarget {
  const original = readBytes('torch/mamba2.bin');
  const load = async (bytes: Uint8Array): Promise<void> =>
    await readAll(await openTorchWeights(guardedFile('m.bin', bytes)));
  // The list of entries is at the end, the pickle at the front.
  const swapped = (random: Random): Uint8Array => {
    const middle = Math.floor(original.byteLength * 0.6);
    return joinBytes(original.subarray(0, middle), mutateBytes(original.subarray(middle), random));
  };
  return {
    name: 'torch file',
    refused: 0.3,
    original: bytesInput(original, load),
    mutate: (random) =>
      bytesInput(random.integer(0, 1) === 0 ? mutateBytes(original, random, 4000) : swapped(random), load),
  };
}

function megatron(): FuzzTarget {
  const name = 'release/mp_rank_00/model_optim_rng.pt';
  const tracker = 'latest_checkpointed_iteration.txt';
  const other = name.replace('00', '01');
  const [original, second] = [readBytes(`megatron/hybrid/${name}`), readBytes(`megatron/hybrid/${other}`)];
  const load = async (bytes: Uint8Array): Promise<void> => {
    const opened = await openMegatron(guardedFolder({ [tracker]: 'release', [name]: bytes, [other]: second }));
    if (opened === undefined) throw new RangeError('the checkpoint was not found');
    planWeights(parseConfig(opened.config), opened.source, 'auto');
    await readAll(opened.source);
  };
  return {
    name: 'megatron',
    refused: 0.2,
    original: bytesInput(original, load),
    mutate: (random) => bytesInput(mutateBytes(original, random, 12_000), load),
  };
}

const TEXT = 'Once upon a time, there \u00e9\u65e5\u{1f600}\n  was 12 <s>';

function useTokenizer(json: unknown, config: unknown): void {
  const tokenizer = createTokenizer(json, config);
  const ids = tokenizer.encode(TEXT);
  for (const id of ids) {
    if (!Number.isSafeInteger(id) || id < 0) throw new RangeError(`a token has the id ${id}`);
  }
  const stream = tokenizer.detokenizer();
  const pieces = ids.map((id) => stream.push(id)).join('') + stream.flush();
  if (pieces !== tokenizer.decode(ids)) throw new RangeError('the text in pieces is another one');
}

function tokenizers(): FuzzTarget[] {
  const file = (name: string): string => readText(`models/stories260k/${name}`);
  const config = file('tokenizer_config.json');
  const target = (name: string, json: string): FuzzTarget =>
    jsonTarget(`tokenizer.json ${name}`, 0.1, json, (text) => {
      useTokenizer(parseJson(text, 'tokenizer.json'), JSON.parse(config));
      return Promise.resolve();
    });
  const vocab = { a: 0, b: 1, c: 2, ab: 3, '\u0120a': 4, '\u0120': 5, '1': 6, '<s>': 7 };
  const byteLevel = {
    version: '1.0',
    added_tokens: [{ id: 7, content: '<s>', special: true, normalized: false, lstrip: false, rstrip: true }],
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s' }, content: ' ' }],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: { Regex: '\\p{N}{1,3}|[^\\r\\n\\p{L}]?\\p{L}+' },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [7], tokens: ['<s>'] } },
    },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab,
      merges: [
        ['a', 'b'],
        ['\u0120', 'a'],
      ],
      unk_token: null,
      ignore_merges: false,
    },
  };
  const unigram = {
    added_tokens: [{ id: 0, content: '<unk>', special: true }],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFKC' },
        { type: 'Prepend', prepend: '\u2581' },
        { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
      ],
    },
    pre_tokenizer: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'first', split: true },
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'Unigram',
      unk_id: 0,
      byte_fallback: true,
      vocab: [
        ['<unk>', 0],
        ['\u2581', -2],
        ['a', -3],
        ['O', -3],
        ['n', -3.5],
        ['ce', -4],
        ['<0xC3>', -9],
      ],
    },
  };
  return [
    target('with byte fallback', file('tokenizer.json')),
    target('of bytes', JSON.stringify(byteLevel)),
    target('of a unigram model', JSON.stringify(unigram)),
    jsonTarget('tokenizer_config.json', 0.02, config, (text) => {
      useTokenizer(unigram, parseJson(text, 'tokenizer_config.json'));
      return Promise.resolve();
    }),
  ];
}

/** Thrown where a load would ask for a GPU: everything was accepted. */
const ACCEPTED = new Error('accepted');

const CONFIGS = [
  'bamba',
  'falcon_h1',
  'falcon_mamba',
  'gemma3_text',
  'gpt2',
  'granitemoehybrid',
  'jamba',
  'lfm2',
  'llama',
  'mamba2',
  'nemotron_h',
  'qwen3',
  'qwen3_next',
  'zamba2',
] as const;

/** config.json of many families, each beside its own weights. */
function configs(): FuzzTarget {
  const models = CONFIGS.map((name) => {
    const text = readText(`models/${name}/config.json`);
    return { value: parseJson(text, name), text, weights: readBytes(`models/${name}/model.safetensors`) };
  });
  const input = (text: string, weights: Uint8Array): FuzzInput => ({
    size: text.length + weights.byteLength,
    load: async () => {
      const folder = guardedFolder({ 'config.json': text, 'model.safetensors': weights });
      const requestDevice = (): Promise<never> => Promise.reject(ACCEPTED);
      const platform = { openFolder: () => Promise.resolve(folder), openCache: requestDevice, requestDevice };
      await loadFrom(platform, 'the test folder').catch((error: unknown) => {
        if (error !== ACCEPTED) throw error;
      });
    },
  });
  const [first] = models;
  if (first === undefined) throw new RangeError('There are no configurations.');
  return {
    name: 'config.json',
    refused: 0.3,
    original: input(first.text, first.weights),
    mutate: (random) => {
      const { value, weights } = models[random.integer(0, models.length - 1)] ?? first;
      return input(mutateJson(value, random), weights);
    },
  };
}

/** All of them. */
export async function fuzzTargets(): Promise<readonly FuzzTarget[]> {
  return [
    safetensors(),
    safetensorsIndex(),
    ggufBytes(),
    await ggufFields(),
    await pickle(),
    torchFile(),
    megatron(),
    ...tokenizers(),
    configs(),
  ];
}
