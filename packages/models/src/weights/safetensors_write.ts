import { ArgumentError } from '@mambalab/kernels';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { SourceDtype } from './source.ts';

/** Name, type and shape of a tensor that is to be written. */
export interface TensorHeader {
  readonly name: string;
  readonly dtype: SourceDtype;
  readonly shape: readonly number[];
}

/** What a `.safetensors` file begins with, and the order of what follows. */
export interface SafetensorsLayout<T extends TensorHeader> {
  /** The length, and the JSON padded with spaces to a multiple of 8 bytes. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** Their data follows in this order, without gaps. */
  readonly tensors: readonly T[];
  /** Bytes of the data of all tensors. */
  readonly dataLength: number;
}

const LENGTH_BYTES = 8;

/**
 * The header of a `.safetensors` file. The same tensors give the same bytes whatever their order: like the format's own
 * library it places wider element types first, then sorts by name, so that every tensor is aligned to its element.
 *
 * @throws ArgumentError for a name that is used twice or reserved
 */
export function layOutSafetensors<T extends TensorHeader>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsLayout<T> {
  const sorted = [...tensors].sort(
    (a, b) => SOURCE_DTYPE_BITS[b.dtype] - SOURCE_DTYPE_BITS[a.dtype] || compareCodeUnits(a.name, b.name),
  );
  // Written by hand: an object would move keys like "0" to the front and lose "__proto__".
  const members: string[] = [];
  const texts = Object.entries(metadata).sort(([a], [b]) => compareCodeUnits(a, b));
  if (texts.length > 0) {
    const pairs = texts.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  const seen = new Set(['__metadata__']);
  let dataLength = 0;
  for (const tensor of sorted) {
    const { name, dtype, shape } = tensor;
    if (seen.has(name)) {
      throw new ArgumentError(
        `Tensor '${name}' cannot be written: its name is taken.`,
        'Give each tensor its own name.',
      );
    }
    seen.add(name);
    const end = dataLength + storedBytes(tensor);
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [dataLength, end] })}`);
    dataLength = end;
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + length).fill(0x20, LENGTH_BYTES);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, LENGTH_BYTES);
  return { header, tensors: sorted, dataLength };
}

/** Bytes of a tensor in a file. */
export function storedBytes({ dtype, shape }: TensorHeader): number {
  return shape.reduce((product, size) => product * size, SOURCE_DTYPE_BITS[dtype]) / 8;
}

/** One file of a checkpoint and the tensors in it. */
export interface Shard<T extends TensorHeader> {
  readonly file: string;
  readonly tensors: readonly T[];
}

/**
 * Distributes tensors, sorted by name, over files of at most `limit` bytes of data: `model.safetensors` alone, or
 * `model-00001-of-00002.safetensors` and so on. A tensor that exceeds the limit has a file of its own.
 */
export function planShards<T extends TensorHeader>(tensors: readonly T[], limit: number): Shard<T>[] {
  const groups: T[][] = [];
  let left = 0;
  for (const tensor of [...tensors].sort((a, b) => compareCodeUnits(a.name, b.name))) {
    const bytes = storedBytes(tensor);
    const group = groups.at(-1);
    if (group === undefined || bytes > left) {
      groups.push([tensor]);
      left = limit - bytes;
    } else {
      group.push(tensor);
      left -= bytes;
    }
  }
  const number = (value: number): string => String(value).padStart(5, '0');
  return groups.map((group, index) => ({
    file:
      groups.length === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(groups.length)}.safetensors`,
    tensors: group,
  }));
}

/** The text of `model.safetensors.index.json`: which file holds which tensor. */
export function shardIndex(shards: readonly Shard<TensorHeader>[]): string {
  const total = shards.flatMap(({ tensors }) => tensors).reduce((sum, tensor) => sum + storedBytes(tensor), 0);
  const places = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file] as const));
  // Written by hand: see above.
  const lines = places.map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  return `{\n  "metadata": {"total_size": ${total}},\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`;
}

function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
