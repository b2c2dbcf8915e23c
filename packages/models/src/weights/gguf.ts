import { WeightFormatError } from '@mambalab/kernels';
import type { MambalabError } from '@mambalab/kernels';
import type { GgufVocabulary } from '../text/gguf_vocabulary.ts';
import { rebuildTokenizer } from '../text/gguf_vocabulary.ts';
import { toFloat32 } from './convert.ts';
import { architectureOf, readArchitecture } from './gguf_architectures.ts';
import { isBlockKind } from './gguf_blocks.ts';
import type { GgufFields } from './gguf_fields.ts';
import type { GgufHeader } from './gguf_header.ts';
import { readGgufHeader } from './gguf_header.ts';
import { GgufModel } from './gguf_model.ts';
import type { FoundTensor } from './gguf_names.ts';
import { ggufSource } from './gguf_tensors.ts';
import { parseJson } from './json.ts';
import type { ByteFile, Folder, TensorSource } from './source.ts';

/** A GGUF file as other checkpoints are: a configuration, a tokenizer, and tensors under Hugging Face's names. */
export interface GgufCheckpoint {
  /** What `config.json` would hold. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What `generation_config.json` would hold; undefined where the file recommends nothing. */
  readonly generationConfig: Readonly<Record<string, unknown>> | undefined;
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: unknown;
  /** Why there is no tokenizer, where the file has one that cannot be rebuilt. */
  readonly tokenizerProblem: MambalabError | undefined;
  readonly source: TensorSource;
}

const ENDING = '.gguf';
/** One of several files of a model, as llama.cpp names them. */
const SPLIT_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s;
/** What sees pictures or hears, for a model in another file. */
const PROJECTOR_NAME = /(?:^|\/)mmproj/i;

/** Whether an address or a path is that of a GGUF file. */
export const isGgufName = (name: string): boolean => name.endsWith(ENDING);

/**
 * One GGUF file of a folder, as a folder that has nothing else; where it is one of several parts of a model, all of them.
 *
 * @param name of the file in the folder
 */
export function ggufFolder(folder: Folder, name: string): Folder {
  const names = partNames(name);
  return {
    label: folder.label,
    list: () => Promise.resolve(names),
    file: async (asked, signal) => (names.includes(asked) ? await folder.file(asked, signal) : undefined),
    readText: () => Promise.resolve(undefined),
    kept: folder.kept,
    beginStreaming: async (signal) => (await folder.beginStreaming?.(signal)) ?? 0,
    endStreaming: async (signal) => await folder.endStreaming?.(signal),
    dispose: () => folder.dispose(),
  };
}

function partNames(name: string): readonly string[] {
  const [, stem, , count] = SPLIT_NAME.exec(name) ?? [];
  if (stem === undefined || count === undefined) return [name];
  return Array.from(
    { length: Number(count) },
    (_, index) => `${stem}-${String(index + 1).padStart(5, '0')}-of-${count}${ENDING}`,
  );
}

/**
 * Opens the GGUF file of a folder, or the parts of one that was split. Headers are read, no tensor is.
 *
 * @returns undefined if the folder lists no such file
 * @throws WeightFormatError if there are several models, parts are missing, or a file is damaged, naming the key or the
 *   tensor; UnsupportedModelError for architectures and storage types that are not read here
 */
export async function openGguf(folder: Folder, signal?: AbortSignal): Promise<GgufCheckpoint | undefined> {
  const listed = ((await folder.list?.()) ?? []).filter((name) => isGgufName(name) && !PROJECTOR_NAME.test(name));
  const [first] = listed.toSorted();
  if (first === undefined) return undefined;
  const names = partNames(first);
  const others = listed.filter((name) => !names.includes(name));
  if (others.length > 0) {
    throw new WeightFormatError(
      `There are several GGUF files in ${folder.label}: ${listed.join(', ')}.`,
      'Give the path or address of one of them.',
    );
  }
  const files = await Promise.all(
    names.map(async (name): Promise<ByteFile> => {
      const file = await folder.file(name, signal);
      if (file !== undefined) return file;
      throw new WeightFormatError(`There is no ${name} in ${folder.label}.`, 'Download the model completely.');
    }),
  );
  const headers = await Promise.all(files.map((file) => readGgufHeader(file, signal)));
  return await readModel(files, headers, () => folder.dispose(), signal);
}

async function readModel(
  files: readonly ByteFile[],
  headers: readonly GgufHeader[],
  dispose: () => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<GgufCheckpoint> {
  const [header] = headers;
  if (header === undefined) throw new RangeError('A model of no files was opened.');
  const { fields } = header;
  // Refused before anything that depends on it is read.
  architectureOf(fields.string('general.architecture'), fields.file);
  checkParts(headers);
  const tensors = new Map<string, FoundTensor>();
  for (const [index, file] of files.entries()) {
    for (const tensor of headers[index]?.tensors.values() ?? []) {
      if (tensors.has(tensor.name)) {
        throw new WeightFormatError(`${file.name} has tensor '${tensor.name}' again.`, 'Download the model again.');
      }
      tensors.set(tensor.name, { ...tensor, file });
    }
  }
  const ropeFactors = await readFactors(tensors.get(ROPE_FACTORS), signal);
  tensors.delete(ROPE_FACTORS);
  const { config, tensors: placed } = readArchitecture(new GgufModel(fields, tensors, ropeFactors));
  const { tokenizerJson, tokenizerConfig, problem } = rebuildTokenizer(vocabularyOf(fields));
  const temperature = fields.optionalNumber('general.sampling.temp');
  return {
    config,
    generationConfig: temperature === undefined ? undefined : { do_sample: temperature > 0, temperature },
    tokenizerJson,
    tokenizerConfig,
    tokenizerProblem: problem,
    source: ggufSource(placed, dispose),
  };
}

function checkParts(headers: readonly GgufHeader[]): void {
  for (const [index, { fields }] of headers.entries()) {
    const count = fields.count('split.count', 1) || 1;
    if (count !== headers.length) throw fields.error('split.count', `${headers.length}, the number of files`, count);
    const number = fields.count('split.no', 0);
    if (number !== index) throw fields.error('split.no', `${index}, as its name says`, number);
  }
}

/** Divisors of RoPE's frequencies, one for each pair of a head. */
const ROPE_FACTORS = 'rope_freqs.weight';

async function readFactors(
  tensor: FoundTensor | undefined,
  signal: AbortSignal | undefined,
): Promise<readonly number[] | undefined> {
  if (tensor === undefined) return undefined;
  const { file, kind, byteOffset, byteLength } = tensor;
  const values = isBlockKind(kind)
    ? []
    : [...toFloat32(await file.read(byteOffset, byteOffset + byteLength, signal), kind)];
  if (values.length > 0 && values.every((value) => Number.isFinite(value) && value > 0)) return values;
  throw new WeightFormatError(
    `Tensor '${ROPE_FACTORS}' in ${file.name} (${kind}) must hold positive numbers.`,
    'Download or convert the model again.',
  );
}

function vocabularyOf(fields: GgufFields): GgufVocabulary {
  const tokenizer = fields.under('tokenizer.');
  const ggml = tokenizer.under('ggml.');
  const role = (name: string): number | undefined => ggml.optionalCount(`${name}_token_id`);
  const whole = tokenizer.optionalString('huggingface.json');
  return {
    model: ggml.optionalString('model'),
    pre: ggml.optionalString('pre'),
    tokens: () => ggml.strings('tokens'),
    types: () => ggml.numbers('token_type'),
    scores: () => ggml.numbers('scores'),
    merges: () => ggml.strings('merges'),
    roles: { bos: role('bos'), eos: role('eos'), pad: role('padding'), unk: role('unknown') },
    addBos: ggml.optionalBoolean('add_bos_token'),
    addEos: ggml.optionalBoolean('add_eos_token'),
    addSpacePrefix: ggml.optionalBoolean('add_space_prefix'),
    hasCharacterMap: ggml.has('precompiled_charsmap'),
    chatTemplates: chatTemplates(tokenizer),
    json: whole === undefined ? undefined : parseJson(whole, `'tokenizer.huggingface.json' in ${fields.file}`),
  };
}

function chatTemplates(tokenizer: GgufFields): Map<string, string> {
  const key = 'chat_template';
  const named = tokenizer.under(`${key}.`);
  const templates = new Map(named.keys().map((name) => [name, named.string(name)]));
  const plain = tokenizer.optionalString(key);
  if (plain !== undefined) templates.set('default', plain);
  return templates;
}
