import type { MambalabError } from '@mambalab/kernels';
import { ArgumentError, WeightFormatError } from '@mambalab/kernels';
import { openGguf } from './gguf.ts';
import { parseJson } from './json.ts';
import { openMegatron } from './megatron.ts';
import { withQuantized } from './quantized_tensors.ts';
import { openSafetensors, readTensor } from './safetensors.ts';
import type { NamedTokenizer } from './sentencepiece_file.ts';
import { openSentencePiece } from './sentencepiece_file.ts';
import type { ByteFile, Folder, TensorInfo, TensorSource } from './source.ts';
import { openTorchWeights } from './torch_file.ts';

/** How weights are stored in a folder: one file, or several and an index that says which holds which tensor. */
interface WeightFormat {
  readonly single: string;
  readonly index: string;
  readonly ending: string;
  open(file: ByteFile, signal?: AbortSignal): Promise<TensorSource>;
}

const SAFETENSORS: WeightFormat = {
  single: 'model.safetensors',
  index: 'model.safetensors.index.json',
  ending: '.safetensors',
  open: async (file, signal) => withQuantized(await openSafetensors(file, signal), file.name),
};
const TORCH: WeightFormat = {
  single: 'pytorch_model.bin',
  index: 'pytorch_model.bin.index.json',
  ending: '.bin',
  open: openTorchWeights,
};

/** A checkpoint folder as Hugging Face libraries write it, opened: everything but the weights is in memory. */
export interface Checkpoint {
  /** `config.json`. */
  readonly config: unknown;
  /** `generation_config.json`, where there is one. */
  readonly generationConfig: unknown;
  /** `tokenizer.json`, where there is one. */
  readonly tokenizerJson: unknown;
  /** `tokenizer_config.json`, where there is one. */
  readonly tokenizerConfig: unknown;
  /** The text of `chat_template.jinja`, where there is one; older checkpoints keep theirs in `tokenizerConfig`. */
  readonly chatTemplate: string | undefined;
  /** `chat_template.json`, where there is one. */
  readonly chatTemplateJson: unknown;
  /** Why there is no tokenizer, where the checkpoint has one that cannot be used. */
  readonly tokenizerProblem?: MambalabError | undefined;
  /** The weights. Disposing it closes the folder. */
  readonly source: TensorSource;
}

/**
 * Opens a checkpoint folder: reads its JSON files and the headers of its safetensors files
 * (`model.safetensors`, or the files of `model.safetensors.index.json`, or the only `*.safetensors`), or where there
 * are none, of `pytorch_model.bin` or the files of `pytorch_model.bin.index.json`. A folder without these that holds
 * `latest_checkpointed_iteration.txt` is opened as a Megatron checkpoint, which brings its own configuration, and one that
 * holds a `.gguf` file and no `config.json` as a GGUF checkpoint, which brings its tokenizer as well.
 * If that fails, the folder is disposed.
 *
 * @throws WeightFormatError if `config.json` or the weights are missing, or a file is not what it should be;
 *   UnsupportedModelError for a Megatron or GGUF checkpoint of a model that is not computed here.
 */
export async function openCheckpoint(folder: Folder, signal?: AbortSignal): Promise<Checkpoint> {
  const optionalJson = async (name: string): Promise<unknown> => {
    const text = await folder.readText(name, signal);
    return text === undefined ? undefined : parseJson(text, name);
  };
  const model = openModel(folder, signal);
  try {
    const [generationConfig, tokenizerJson, tokenizerConfig, chatTemplate, chatTemplateJson, opened] =
      await Promise.all([
        optionalJson('generation_config.json'),
        optionalJson('tokenizer.json'),
        optionalJson('tokenizer_config.json'),
        folder.readText('chat_template.jinja', signal),
        optionalJson('chat_template.json'),
        model,
      ]);
    const hasTokenizer = tokenizerJson !== undefined || opened.tokenizerJson !== undefined;
    const { tokenizer, ...brought } = opened;
    const rebuilt = hasTokenizer ? undefined : await openSentencePiece(folder, tokenizerConfig, tokenizer, signal);
    return {
      generationConfig,
      tokenizerConfig,
      ...rebuilt,
      ...brought,
      // What stands beside a file counts more than what it brings.
      ...(generationConfig !== undefined && { generationConfig }),
      ...(tokenizerJson !== undefined && { tokenizerConfig, tokenizerProblem: undefined }),
      tokenizerJson: tokenizerJson ?? opened.tokenizerJson ?? rebuilt?.tokenizerJson,
      chatTemplate,
      chatTemplateJson,
    };
  } catch (error) {
    // Nobody else holds what was opened here; and what is still being opened would escape `dispose`.
    await model.catch(() => undefined);
    await folder.dispose();
    throw error;
  }
}

/** The configuration and the weights, which belong together, and what else their files bring. */
type OpenModel = Pick<Checkpoint, 'config' | 'source'> & Partial<Checkpoint> & { readonly tokenizer?: NamedTokenizer };

async function openModel(folder: Folder, signal?: AbortSignal): Promise<OpenModel> {
  const text = await folder.readText('config.json', signal);
  const config = text === undefined ? undefined : parseJson(text, 'config.json');
  const source = text === undefined ? undefined : await findWeights(folder, signal);
  if (source !== undefined) return { config, source };
  const megatron = await openMegatron(folder, signal);
  if (megatron !== undefined) return megatron;
  if (text !== undefined) throw await noWeights(folder);
  const gguf = await openGguf(folder, signal);
  if (gguf !== undefined) return gguf;
  throw new WeightFormatError(
    `There is no config.json in ${folder.label}.`,
    'Give a folder with config.json, *.safetensors and tokenizer.json, or a GGUF file.',
  );
}

/**
 * Opens the safetensors files of a folder, or those of PyTorch, as one source.
 *
 * @throws WeightFormatError if there are none, or the index disagrees with the files.
 */
export async function openWeights(folder: Folder, signal?: AbortSignal): Promise<TensorSource> {
  const source = await findWeights(folder, signal);
  if (source === undefined) throw await noWeights(folder);
  return source;
}

async function findWeights(folder: Folder, signal?: AbortSignal): Promise<TensorSource | undefined> {
  const named = await openNamed(folder, SAFETENSORS, signal);
  if (named !== undefined) return named;
  const candidates = await listSafetensors(folder);
  const [only] = candidates;
  const file = candidates.length === 1 && only !== undefined ? await folder.file(only, signal) : undefined;
  if (file !== undefined) return await openSingle(folder, file, SAFETENSORS, signal);
  return await openNamed(folder, TORCH, signal);
}

async function noWeights(folder: Folder): Promise<WeightFormatError> {
  const candidates = await listSafetensors(folder);
  const found = candidates.length === 0 ? 'none' : candidates.join(', ');
  const [first, ...others] = [SAFETENSORS, TORCH].flatMap(({ single, index }) => [single, index]);
  return new WeightFormatError(
    `There is no ${first} and no ${others.join(', ')} in ${folder.label} (other safetensors files: ${found}).`,
    'Convert the weights to safetensors, or add the index that says which file holds which tensor.',
  );
}

async function listSafetensors(folder: Folder): Promise<readonly string[]> {
  return ((await folder.list?.()) ?? []).filter((name) => name.endsWith(SAFETENSORS.ending));
}

async function openNamed(
  folder: Folder,
  format: WeightFormat,
  signal?: AbortSignal,
): Promise<TensorSource | undefined> {
  const single = await folder.file(format.single, signal);
  if (single !== undefined) return await openSingle(folder, single, format, signal);
  const indexText = await folder.readText(format.index, signal);
  return indexText === undefined ? undefined : await openIndexed(folder, indexText, format, signal);
}

async function openSingle(
  folder: Folder,
  file: ByteFile,
  format: WeightFormat,
  signal?: AbortSignal,
): Promise<TensorSource> {
  return { ...(await format.open(file, signal)), dispose: () => folder.dispose() };
}

async function openIndexed(
  folder: Folder,
  indexText: string,
  format: WeightFormat,
  signal?: AbortSignal,
): Promise<TensorSource> {
  const weightMap = parseWeightMap(indexText, format);
  const shardNames = [...new Set(weightMap.values())];
  const shards = new Map<string, TensorSource>();
  await Promise.all(
    shardNames.map(async (name) => {
      const file = await folder.file(name, signal);
      if (file === undefined) {
        throw new WeightFormatError(
          `${format.index} names the file ${name}, which is not in ${folder.label}.`,
          'Download the checkpoint completely.',
        );
      }
      shards.set(name, await format.open(file, signal));
    }),
  );
  // The index is the table of contents: a tensor that it does not list is left alone.
  const tensors = new Map<string, TensorInfo>();
  for (const [name, shardName] of weightMap) {
    const info = shards.get(shardName)?.tensors.get(name);
    if (info === undefined) {
      throw new WeightFormatError(
        `${format.index} says that tensor '${name}' is in ${shardName}, but that file does not hold it.`,
        'The index and the files are of different exports: download them again.',
      );
    }
    // Under the name of the index: a folder may hand out a file under a longer name.
    tensors.set(name, { ...info, file: shardName });
  }
  const shardOf = (name: string): TensorSource | undefined => shards.get(tensors.get(name)?.file ?? '');
  return {
    tensors,
    read: async (name, start, end, readSignal) =>
      await (shardOf(name)?.read(name, start, end, readSignal) ?? readTensor(undefined, undefined, name)),
    readBlocks: async (name, dtype, row, rows, readSignal) => {
      const blocks = shardOf(name)?.readBlocks?.(name, dtype, row, rows, readSignal);
      if (blocks !== undefined) return await blocks;
      throw new ArgumentError(`There are no blocks of '${name}'.`, 'Ask only for what `blocks.exact` names.');
    },
    dispose: () => folder.dispose(),
  };
}

function parseWeightMap(text: string, format: WeightFormat): Map<string, string> {
  const index = parseJson(text, format.index);
  const map = typeof index === 'object' && index !== null && 'weight_map' in index ? index.weight_map : undefined;
  if (typeof map !== 'object' || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw new WeightFormatError(
      `${format.index} has no \`weight_map\` from tensor names to file names.`,
      'Download or export the file again.',
    );
  }
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== 'string' || !isPlainFileName(file) || !file.endsWith(format.ending)) {
      throw new WeightFormatError(
        `${format.index} maps tensor '${tensor}' to ${JSON.stringify(file)}, expected a ${format.ending} file in the folder.`,
        'Do not load this checkpoint unless you trust who made it; correct the index if you do.',
      );
    }
    weightMap.set(tensor, file);
  }
  return weightMap;
}

/** Whether a name from a file stays inside its folder: relative, and no `..`, backslash, drive, scheme or query. */
export function isPlainFileName(name: string): boolean {
  if (/[\\:?#%]/.test(name) || [...name].some((character) => character < ' ')) return false;
  return name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
