import type { SourceTensor, WeightSpec } from '../spec/weight_spec.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { SourceDtype, TensorSource } from './source.ts';

/** Bytes of a checkpoint that are in memory at a time. */
export const BLOCK_BYTES: number = 16 * 2 ** 20;

/** Whole rows of a weight as its checkpoint stores them. A row of a vector is one value. */
export interface RowBlock {
  /** The tensor that they come from. */
  readonly source: string;
  /** The row of the weight that the first of them is. */
  readonly row: number;
  readonly rows: number;
  readonly bytes: Uint8Array;
  readonly dtype: SourceDtype;
  /** Multiplies the values. */
  readonly scale: number;
}

/** Values of a row of a weight. */
export const rowWidth = ({ kind, shape }: WeightSpec): number =>
  kind === 'matrix' ? (shape[shape.length - 1] ?? 1) : 1;

/** Bytes of the checkpoint that a weight is made from. */
export function sourceBytes(spec: WeightSpec, source: TensorSource): number {
  const width = rowWidth(spec);
  return spec.sources.reduce((sum, part) => {
    const bits = SOURCE_DTYPE_BITS[source.tensors.get(part.name)?.dtype ?? 'F32'];
    return sum + (takenRows(part, width) * width * bits) / 8;
  }, 0);
}

/** Rows that are still to be read. */
export interface PendingRows extends Omit<RowBlock, 'bytes'> {
  /** Bytes of the rows. */
  readonly byteLength: number;
  /** The file that holds them. */
  readonly file: string;
  /** Where in the file they begin. */
  readonly byteOffset: number;
  read(signal?: AbortSignal): Promise<Uint8Array>;
}

/** Reads the rows of a weight in their order, in blocks of about 16 MiB. */
export async function* rowBlocks(
  spec: WeightSpec,
  source: TensorSource,
  signal?: AbortSignal,
): AsyncGenerator<RowBlock> {
  for (const { read, ...block } of pendingRows(spec, source)) {
    signal?.throwIfAborted();
    yield { ...block, bytes: await read(signal) };
  }
}

/** The rows of a weight in their order, in blocks of about 16 MiB, without reading any. */
export function pendingRows(spec: WeightSpec, source: TensorSource): PendingRows[] {
  const width = rowWidth(spec);
  const blocks: PendingRows[] = [];
  // Parts that are stored by turns follow each other in one tensor.
  let whole: WholeTensor | undefined;
  let row = 0;
  for (const part of spec.sources) {
    const info = source.tensors.get(part.name);
    if (info === undefined) throw new RangeError(`The plan names the tensor '${part.name}', which the source lacks.`);
    const valueBytes = SOURCE_DTYPE_BITS[info.dtype] / 8;
    const rowBytes = width * valueBytes;
    let parts: readonly PartRows[];
    if (isReadWhole(part, width, valueBytes)) {
      if (whole?.holds(part) !== true) whole = new WholeTensor(part, width, valueBytes, source);
      parts = [whole.take(part)];
    } else {
      parts = partRows(part, width, rowBytes, source);
    }
    for (const { first, rows, read } of parts) {
      blocks.push({
        source: part.name,
        dtype: info.dtype,
        scale: part.scale ?? 1,
        row,
        rows,
        byteLength: rows * rowBytes,
        file: info.file,
        byteOffset: info.byteOffset + first * rowBytes,
        read,
      });
      row += rows;
    }
  }
  return blocks;
}

const storedRows = ({ shape }: SourceTensor, width: number): number =>
  shape.reduce((product, size) => product * size, 1) / width;

function takenRows(part: SourceTensor, width: number): number {
  return part.ranges?.reduce((sum, { count }) => sum + count, 0) ?? storedRows(part, width);
}

interface PartRows extends Pick<PendingRows, 'rows' | 'read'> {
  /** The row of the tensor that they begin with, or 0 where it is read whole. */
  readonly first: number;
}

/** Columns are scattered over the whole tensor, and many short ranges cost more to ask for than what lies between. */
function isReadWhole(part: SourceTensor, width: number, valueBytes: number): boolean {
  const { transposed, ranges = [] } = part;
  return transposed === true || (ranges.length > 1 && storedRows(part, width) * width * valueBytes <= BLOCK_BYTES);
}

/**
 * All of a tensor, transposed where its columns are the rows of the weight. It is read once for all parts that take
 * rows of it, and forgotten after the last.
 */
class WholeTensor {
  readonly #name: string;
  readonly #transposed: boolean;
  readonly #width: number;
  readonly #valueBytes: number;
  readonly #readAll: (signal?: AbortSignal) => Promise<Uint8Array>;
  #bytes: Promise<Uint8Array> | undefined;
  #takers = 0;

  constructor(part: SourceTensor, width: number, valueBytes: number, source: TensorSource) {
    const { name, transposed = false } = part;
    this.#name = name;
    this.#transposed = transposed;
    this.#width = width;
    this.#valueBytes = valueBytes;
    this.#readAll = async (signal) => {
      const stored = await source.read(name, 0, storedRows(part, width) * width * valueBytes, signal);
      return transposed ? transpose(stored, width, valueBytes) : stored;
    };
  }

  holds(part: SourceTensor): boolean {
    return part.name === this.#name && (part.transposed ?? false) === this.#transposed;
  }

  take(part: SourceTensor): PartRows {
    this.#takers += 1;
    const read = async (signal?: AbortSignal): Promise<Uint8Array> => {
      this.#bytes ??= this.#readAll(signal);
      const all = await this.#bytes;
      this.#takers -= 1;
      if (this.#takers === 0) this.#bytes = undefined;
      return rangesOf(all, part, this.#width * this.#valueBytes);
    };
    return { first: 0, rows: takenRows(part, this.#width), read };
  }
}

/** The rows of a tensor that a part takes, in a place of their own. */
function rangesOf(all: Uint8Array, { ranges }: SourceTensor, rowBytes: number): Uint8Array {
  if (ranges === undefined) return all;
  const bytes = new Uint8Array(ranges.reduce((sum, { count }) => sum + count, 0) * rowBytes);
  let at = 0;
  for (const { first, count } of ranges) {
    bytes.set(all.subarray(first * rowBytes, (first + count) * rowBytes), at);
    at += count * rowBytes;
  }
  return bytes;
}

function partRows(part: SourceTensor, width: number, rowBytes: number, source: TensorSource): PartRows[] {
  const step = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
  const blocks: PartRows[] = [];
  for (const { first, count } of part.ranges ?? [{ first: 0, count: storedRows(part, width) }]) {
    for (let begin = first; begin < first + count; begin += step) {
      const rows = Math.min(step, first + count - begin);
      const read = (signal?: AbortSignal): Promise<Uint8Array> =>
        source.read(part.name, begin * rowBytes, (begin + rows) * rowBytes, signal);
      blocks.push({ first: begin, rows, read });
    }
  }
  return blocks;
}

/** A (height, columns) matrix of values of some bytes as (columns, height). */
function transpose(bytes: Uint8Array, height: number, valueBytes: number): Uint8Array {
  const columns = bytes.byteLength / valueBytes / height;
  const result = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * columns + column) * valueBytes;
      const to = (column * height + row) * valueBytes;
      for (let byte = 0; byte < valueBytes; byte++) result[to + byte] = bytes[from + byte] ?? 0;
    }
  }
  return result;
}
