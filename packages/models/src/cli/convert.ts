import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pc from 'picocolors';
import { openFolder } from '../node.ts';
import { parseConfig } from '../surface.ts';
import type { OutputDtype, OutputTensor } from '../weights/checkpoint_output.ts';
import { outputFile, planOutput, readPieces, storedKinds } from '../weights/checkpoint_output.ts';
import type { Checkpoint } from '../weights/folder.ts';
import { openCheckpoint } from '../weights/folder.ts';
import { planShards, shardIndex, storedBytes } from '../weights/safetensors_write.ts';
import type { Folder, SourceDtype } from '../weights/source.ts';
import { writeFolder } from './output_folder.ts';
import { quantizationOf } from './quantization_flags.ts';
import type { QuantizationFlags } from './quantization_flags.ts';
import { formatBytes, onInterrupt } from './terminal.ts';

export interface ConvertFlags extends QuantizationFlags {
  readonly dtype?: OutputDtype;
  /** Most bytes of data in one file. */
  readonly shardSize: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

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

/** `mambalab convert IN OUT`: any checkpoint that loads, as a folder with safetensors and config.json. */
export async function convert(input: string, output: string, flags: ConvertFlags): Promise<void> {
  using interruption = onInterrupt();
  const { signal } = interruption;
  const folder = await openFolder(input);
  const checkpoint = await openCheckpoint(folder, signal);
  const { config, source } = checkpoint;
  try {
    const tensors = planOutput(parseConfig(config), source, flags.dtype, quantizationOf(flags).quantization);
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
        if (file !== undefined) await put(name, readPieces(await file.size(signal), file.read.bind(file), signal));
      }
      for (const [name, value] of broughtFiles(checkpoint)) {
        if (!files.includes(name)) await put(name, [encode(`${JSON.stringify(value)}\n`)]);
      }
      for (const shard of shards)
        await put(
          shard.file,
          outputFile(shard.tensors, source, (bytes) => progress.add(bytes), signal),
        );
      if (shards.length > 1) await put('model.safetensors.index.json', [encode(shardIndex(shards))]);
    });
    const facts = {
      path: output,
      files: files.sort(),
      tensors: tensors.length,
      bytes: tensors.reduce((sum, tensor) => sum + storedBytes(tensor), 0),
      storedAs: [...storedKinds(tensors).keys()],
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
function configText(config: unknown, tensors: readonly OutputTensor[]): string {
  const fields = { ...Object(config) } as Record<string, unknown>;
  // Blocks are no type of the framework: the type of what is not in blocks stays.
  const [largest] = tensors
    .filter(({ blocks }) => blocks === undefined)
    .sort((a, b) => storedBytes(b) - storedBytes(a));
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
