import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IntegrityError } from '@mambalab/kernels';
import pc from 'picocolors';
import { openFolder } from '../node.ts';
import { parseConfig } from '../surface.ts';
import { toFloat32, toPackedBf16, toPackedF16 } from '../weights/convert.ts';
import type { Checkpoint } from '../weights/folder.ts';
import { openCheckpoint } from '../weights/folder.ts';
import { namedSource } from '../weights/named_source.ts';
import { isFloat32, planWeights } from '../weights/plan.ts';
import { layOutSafetensors, planShards, shardIndex, storedBytes } from '../weights/safetensors_write.ts';
import type { TensorHeader } from '../weights/safetensors_write.ts';
import { SOURCE_DTYPE_BITS } from '../weights/source.ts';
import type { Folder, SourceDtype, TensorInfo, TensorSource } from '../weights/source.ts';
import { writeFolder } from './output_folder.ts';
import { formatBytes, onInterrupt } from './terminal.ts';

export interface ConvertFlags {
  readonly dtype?: ConvertDtype;
  /** Most bytes of data in one file. */
  readonly shardSize: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

type ConvertDtype = 'f32' | 'f16' | 'bf16';

/** Bytes that are in memory at a time. A multiple of every element. */
const BLOCK_BYTES = 16 * 2 ** 20;

const STORED: Readonly<Record<ConvertDtype, SourceDtype>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };
const TORCH_NAMES: Partial<Record<SourceDtype, string>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  F64: 'float64',
};

/** What a folder may hold beside configuration and weights. */
const COPIED = [
  'added_tokens.json',
  'chat_template.jinja',
  'generation_config.json',
  'merges.txt',
  'special_tokens_map.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'vocab.json',
] as const;

/** A tensor of the result: what the source calls it, and the type that it is written in. */
interface Output extends TensorHeader {
  readonly info: TensorInfo;
}

/** `mambalab convert IN OUT`: any checkpoint that loads, as a folder with safetensors and config.json. */
export async function convert(input: string, output: string, flags: ConvertFlags): Promise<void> {
  using interruption = onInterrupt();
  const { signal } = interruption;
  const folder = await openFolder(input);
  const checkpoint = await openCheckpoint(folder, signal);
  const { config } = checkpoint;
  const source = namedSource(checkpoint.source);
  try {
    const tensors = planOutput(config, source, flags.dtype);
    const shards = planShards(tensors, flags.shardSize);
    const files: string[] = [];
    const totalBytes = tensors.reduce((sum, { info }) => sum + info.byteLength, 0);
    using progress = new Progress(totalBytes, flags.json === true);
    await writeFolder(output, { input: pathOf(input), replace: flags.force === true }, async (target) => {
      const put = async (name: string, pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> => {
        await writeFile(join(target, name), pieces);
        files.push(name);
      };
      await put('config.json', [encode(configText(config, tensors))]);
      for (const name of await copiedFiles(folder)) {
        const file = await folder.file(name, signal);
        if (file !== undefined) await put(name, readBlocks(await file.size(signal), file.read.bind(file), signal));
      }
      for (const [name, value] of broughtFiles(checkpoint)) {
        if (!files.includes(name)) await put(name, [encode(`${JSON.stringify(value)}\n`)]);
      }
      for (const shard of shards) await put(shard.file, shardBytes(shard.tensors, source, progress, signal));
      if (shards.length > 1) await put('model.safetensors.index.json', [encode(shardIndex(shards))]);
    });
    const facts = {
      path: output,
      files: files.sort(),
      tensors: tensors.length,
      bytes: tensors.reduce((sum, tensor) => sum + storedBytes(tensor), 0),
      storedAs: [...new Set(tensors.map(({ dtype }) => dtype))],
    };
    process.stdout.write(
      flags.json === true
        ? `${JSON.stringify(facts)}\n`
        : `${output}: ${facts.tensors} tensors, ${formatBytes(facts.bytes)} as ${facts.storedAs.join(', ')}, in ${shards.length === 1 ? 'one file' : `${shards.length} files`}\n`,
    );
  } finally {
    await source.dispose();
  }
}

/**
 * Every tensor that the model needs. With a dtype, matrices get it and everything else is float32, as both are on the
 * GPU; without one all tensors keep theirs.
 */
function planOutput(config: unknown, source: TensorSource, dtype: ConvertDtype | undefined): Output[] {
  const wanted = new Map<string, SourceDtype | undefined>();
  for (const { spec } of planWeights(parseConfig(config), source, 'auto')) {
    const stored = dtype === undefined ? undefined : isFloat32(spec) ? 'F32' : STORED[dtype];
    for (const { name } of spec.sources) wanted.set(name, stored);
  }
  return [...source.tensors.values()]
    .filter(({ name }) => wanted.has(name))
    .map((info) => ({ name: info.name, shape: info.shape, dtype: wanted.get(info.name) ?? info.dtype, info }));
}

async function* shardBytes(
  tensors: readonly Output[],
  source: TensorSource,
  progress: Progress,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  // Hugging Face's loader asks for this word.
  const { header, tensors: ordered } = layOutSafetensors(tensors, { format: 'pt' });
  yield header;
  for (const { name, dtype, info } of ordered) {
    const read = (start: number, end: number): Promise<Uint8Array> => source.read(name, start, end, signal);
    for await (const bytes of readBlocks(info.byteLength, read, signal)) {
      yield convertBlock(bytes, info, dtype);
      progress.add(bytes.byteLength);
    }
  }
}

async function* readBlocks(
  size: number,
  read: (start: number, end: number) => Promise<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < size; start += BLOCK_BYTES) {
    signal.throwIfAborted();
    yield await read(start, Math.min(size, start + BLOCK_BYTES));
  }
}

function convertBlock(bytes: Uint8Array, info: TensorInfo, dtype: SourceDtype): Uint8Array {
  if (dtype === info.dtype) return bytes;
  if (dtype === 'F32') {
    const values = toFloat32(bytes, info.dtype);
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const { words, overflows } = (dtype === 'F16' ? toPackedF16 : toPackedBf16)(bytes, info.dtype);
  if (overflows > 0) {
    throw new IntegrityError(
      `${overflows} values of '${info.name}' are beyond the range of ${dtype}.`,
      'Convert with --dtype bf16 or f32.',
    );
  }
  // Words hold two values, and the last may be half full.
  return new Uint8Array(words.buffer, 0, (bytes.byteLength * 16) / SOURCE_DTYPE_BITS[info.dtype]);
}

async function writeFile(path: string, pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    for await (const piece of pieces) await handle.writeFile(piece);
    // The folder is renamed when this is done: a power cut must not leave a name without data.
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Names of {@link COPIED}, and of other models of SentencePiece where the folder can be listed. */
async function copiedFiles(folder: Folder): Promise<readonly string[]> {
  const listed = (await folder.list?.()) ?? [];
  const models = listed.filter((name) => name.endsWith('.model') && !name.includes('/'));
  return [...new Set<string>([...COPIED, ...models])].sort();
}

/** Files that a folder would hold, of a checkpoint that has what they say in its weights' file. */
function broughtFiles(checkpoint: Checkpoint): readonly (readonly [string, unknown])[] {
  return [
    ['generation_config.json', checkpoint.generationConfig] as const,
    ['tokenizer.json', checkpoint.tokenizerJson] as const,
    ['tokenizer_config.json', checkpoint.tokenizerConfig] as const,
  ].filter(([, value]) => value !== undefined);
}

/** config.json. The type that the weights are stored in is said where it changed or nothing was said. */
function configText(config: unknown, tensors: readonly Output[]): string {
  const fields = { ...Object(config) } as Record<string, unknown>;
  const [largest] = [...tensors].sort((a, b) => storedBytes(b) - storedBytes(a));
  const field = 'dtype' in fields ? 'dtype' : 'torch_dtype';
  const changed = tensors.some(({ dtype, info }) => dtype !== info.dtype);
  if (largest !== undefined && (changed || !(field in fields))) fields[field] = TORCH_NAMES[largest.dtype];
  // JSON has no infinity; Python's own writer uses bare words, which everybody who reads such files knows.
  const text = JSON.stringify(
    fields,
    (_, value: unknown) => (typeof value === 'number' && !Number.isFinite(value) ? `\0${value}` : value),
    2,
  );
  return `${text.replace(/"\\u0000(-?Infinity|NaN)"/g, '$1')}\n`;
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The path of a source that is on disk. */
function pathOf(input: string): string | undefined {
  if (/^https?:/.test(input)) return undefined;
  return input.startsWith('file:') ? fileURLToPath(input) : input;
}

/** One line that rewrites itself on a terminal; nothing elsewhere. */
class Progress implements Disposable {
  readonly #total: number;
  readonly #silent: boolean;
  #done = 0;

  constructor(total: number, silent: boolean) {
    this.#total = total;
    this.#silent = silent || !process.stderr.isTTY;
  }

  add(bytes: number): void {
    this.#done += bytes;
    if (this.#silent) return;
    process.stderr.write(`\r\x1b[K${pc.dim(`converting ${formatBytes(this.#done)} of ${formatBytes(this.#total)}`)}`);
  }

  [Symbol.dispose](): void {
    if (!this.#silent) process.stderr.write('\r\x1b[K');
  }
}
