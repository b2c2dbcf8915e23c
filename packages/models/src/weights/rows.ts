import type { Dtype, QuantizedRows } from '@mambalab/kernels';
import { isQuantized, QUANT_BLOCK } from '@mambalab/kernels';
import type { SourceTensor, WeightSpec } from '../spec/weight_spec.ts';
import type { RowRange } from '../spec/weights/tensors.ts';
import { SOURCE_DTYPE_BITS, storedBits } from './source.ts';
import type { SourceDtype, TensorInfo, TensorSource } from './source.ts';

/** Bytes of a checkpoint that are in memory at a time. */
export const BLOCK_BYTES: number = 16 * 2 ** 20;

/** Where rows belong. */
export interface RowPlace {
  /** The tensor that they come from. */
  readonly source: string;
  /** The row of the weight that the first of them is. */
  readonly row: number;
  readonly rows: number;
  /** What they take in the file. */
  readonly fileBytes: number;
}

/** Whole rows of a weight as its checkpoint stores them. A row of a vector is one value. */
export interface ValueRows extends RowPlace {
  readonly bytes: Uint8Array;
  readonly dtype: SourceDtype;
  /** Multiplies the values. */
  readonly scale: number;
  /** Whether the transform of the weight was applied before they were stored. */
  readonly transformed: boolean;
}

/** Whole rows that the checkpoint stores in the block format that they have on the GPU. */
export interface QuantRows extends RowPlace, QuantizedRows {
  /** Multiplies the scales of the blocks. */
  readonly scale: number;
}

export type RowBlock = ValueRows | QuantRows;

/** Values of a row of a weight. */
export const rowWidth = ({ kind, shape }: WeightSpec): number =>
  kind === 'matrix' ? (shape[shape.length - 1] ?? 1) : 1;

/** Bytes of the checkpoint that a weight is made from. */
export function sourceBytes(spec: WeightSpec, source: TensorSource): number {
  const width = rowWidth(spec);
  return spec.sources.reduce((sum, part) => {
    const info = source.tensors.get(part.name);
    return sum + takenRows(part, width) * fileRowBytes(width, info);
  }, 0);
}

/** What a row takes in the file. */
function fileRowBytes(width: number, info: TensorInfo | undefined): number {
  return Math.round(width * (info === undefined ? 32 : storedBits(info))) / 8;
}

/** Rows that are still to be read. */
export interface PendingRows extends RowPlace {
  /** The file that holds them. */
  readonly file: string;
  /** Where in the file they begin, or what must be read for them. */
  readonly byteOffset: number;
  /** What they take in memory. */
  readonly byteLength: number;
  read(signal?: AbortSignal): Promise<RowContent>;
}

/**
 * Reads the rows of a weight in their order, in blocks of about 16 MiB.
 *
 * @param dtype of the weight on the GPU: parts that are stored in it as blocks are passed on as they are
 */
export async function* rowBlocks(
  spec: WeightSpec,
  dtype: Dtype,
  source: TensorSource,
  signal?: AbortSignal,
): AsyncGenerator<RowBlock> {
  for (const pending of pendingRows(spec, dtype, source)) {
    signal?.throwIfAborted();
    yield blockOf(pending, await pending.read(signal));
  }
}

/** As {@link rowBlocks}, without reading any. */
export function pendingRows(spec: WeightSpec, dtype: Dtype, source: TensorSource): PendingRows[] {
  const width = rowWidth(spec);
  const pending: PendingRows[] = [];
  let reader: PartReader | undefined;
  let row = 0;
  for (const part of spec.sources) {
    const info = source.tensors.get(part.name);
    if (info === undefined) throw new RangeError(`The plan names the tensor '${part.name}', which the source lacks.`);
    const bytesPerRow = fileRowBytes(width, info);
    // Parts that are stored by turns follow each other in one tensor, which is then read once.
    if (reader?.serves(part) !== true) reader = readerOf(part, dtype, width, info, source);
    for (const { first, ...rows } of reader.plan(part)) {
      pending.push({
        source: part.name,
        row,
        fileBytes: rows.rows * bytesPerRow,
        file: info.file,
        byteOffset: info.byteOffset + first * bytesPerRow,
        ...rows,
      });
      row += rows.rows;
    }
  }
  return pending;
}

/** Rows that were read. */
export function blockOf({ source, row, rows, fileBytes }: RowPlace, content: RowContent): RowBlock {
  return { source, row, rows, fileBytes, ...content };
}

const storedRows = ({ shape }: SourceTensor, width: number): number =>
  shape.reduce((product, size) => product * size, 1) / width;

function takenRows(part: SourceTensor, width: number): number {
  return part.ranges === undefined ? storedRows(part, width) : countOf(part.ranges);
}

const countOf = (ranges: readonly RowRange[]): number => ranges.reduce((sum, { count }) => sum + count, 0);

/** What rows are made of, wherever they belong. */
export type RowContent = Omit<ValueRows, keyof RowPlace> | Omit<QuantRows, keyof RowPlace>;

interface PartRows extends Pick<PendingRows, 'byteLength' | 'read' | 'rows'> {
  /** The row of the tensor that they begin with, or 0 where it is read whole. */
  readonly first: number;
}

/** Reads parts of one tensor. */
interface PartReader {
  serves(part: SourceTensor): boolean;
  plan(part: SourceTensor): PartRows[];
}

function readerOf(part: SourceTensor, dtype: Dtype, width: number, info: TensorInfo, source: TensorSource): PartReader {
  const { name, transposed = false } = part;
  const isSame = (other: SourceTensor): boolean => other.name === name && (other.transposed ?? false) === transposed;
  const quants = isQuantized(dtype) ? quantAccess(part, dtype, width, info, source) : undefined;
  if (quants !== undefined) {
    return { serves: isSame, plan: partReader(quants, width, (rows, { scale = 1 }) => ({ ...rows, scale })) };
  }
  const { transformed = false } = info;
  return {
    serves: isSame,
    plan: partReader(valueAccess(part, width, info, source), width, (bytes, { scale = 1 }) => ({
      bytes,
      dtype: info.dtype,
      scale,
      transformed,
    })),
  };
}

/** Reads rows of one tensor, and takes some of those that were read. */
interface RowAccess<Content> {
  readonly bytesPerRow: number;
  /** Whether only all rows can be read. */
  readonly isWhole: boolean;
  read(first: number, count: number, signal?: AbortSignal): Promise<Content>;
  take(all: Content, ranges: readonly RowRange[]): Content;
}

/** To values. */
function valueAccess(
  part: SourceTensor,
  width: number,
  { dtype, transposed = false }: TensorInfo,
  source: TensorSource,
): RowAccess<Uint8Array> {
  const valueBytes = SOURCE_DTYPE_BITS[dtype] / 8;
  const bytesPerRow = width * valueBytes;
  // Columns are scattered over the whole tensor.
  const isWhole = (part.transposed ?? false) !== transposed;
  return {
    bytesPerRow,
    isWhole,
    read: async (first, count, signal) => {
      const stored = await source.read(part.name, first * bytesPerRow, (first + count) * bytesPerRow, signal);
      return isWhole ? transpose(stored, width, valueBytes) : stored;
    },
    take: (all, ranges) => takeRows(all, bytesPerRow, ranges, new Uint8Array(countOf(ranges) * bytesPerRow)),
  };
}

/** To blocks; undefined where the tensor has none that can be passed on as they are. */
function quantAccess(
  part: SourceTensor,
  dtype: 'q8' | 'q4',
  width: number,
  { blocks, shape, transposed = false }: TensorInfo,
  source: TensorSource,
): RowAccess<QuantizedRows> | undefined {
  const isPassed = blocks?.exact.includes(dtype) === true && (part.transposed ?? false) === transposed;
  const storedWidth = transposed ? shape[0] : shape[shape.length - 1];
  if (!isPassed || storedWidth !== width || source.readBlocks === undefined) return undefined;
  const read = source.readBlocks.bind(source);
  const scales = Math.ceil(width / QUANT_BLOCK);
  const words = scales * (dtype === 'q8' ? 8 : 4);
  return {
    bytesPerRow: 4 * words + 2 * scales,
    isWhole: false,
    read: (first, count, signal) => read(part.name, dtype, first, count, signal),
    take: (all, ranges) => ({
      quants: takeRows(all.quants, words, ranges, new Uint32Array(countOf(ranges) * words)),
      scales: takeRows(all.scales, scales, ranges, new Uint16Array(countOf(ranges) * scales)),
    }),
  };
}

function partReader<Content>(
  access: RowAccess<Content>,
  width: number,
  toContent: (content: Content, part: SourceTensor) => RowContent,
): PartReader['plan'] {
  let whole: Promise<Content> | undefined;
  /** Parts that are still to take rows of it. */
  let takers = 0;
  const readPart = async (part: SourceTensor, signal: AbortSignal | undefined): Promise<RowContent> => {
    whole ??= access.read(0, storedRows(part, width), signal);
    const content = await whole;
    takers -= 1;
    if (takers === 0) whole = undefined;
    return toContent(part.ranges === undefined ? content : access.take(content, part.ranges), part);
  };
  return (part) => {
    const all = storedRows(part, width);
    const { ranges } = part;
    // Many short ranges cost more to ask for than what lies between them.
    const isShort = ranges !== undefined && ranges.length > 1 && all * access.bytesPerRow <= BLOCK_BYTES;
    if (access.isWhole || isShort) {
      takers += 1;
      const rows = takenRows(part, width);
      return [{ first: 0, rows, byteLength: rows * access.bytesPerRow, read: (signal) => readPart(part, signal) }];
    }
    const step = Math.max(1, Math.floor(BLOCK_BYTES / access.bytesPerRow));
    const blocks: PartRows[] = [];
    for (const { first, count } of ranges ?? [{ first: 0, count: all }]) {
      for (let begin = first; begin < first + count; begin += step) {
        const rows = Math.min(step, first + count - begin);
        const read = async (signal?: AbortSignal): Promise<RowContent> =>
          toContent(await access.read(begin, rows, signal), part);
        blocks.push({ first: begin, rows, byteLength: rows * access.bytesPerRow, read });
      }
    }
    return blocks;
  };
}

function takeRows<T extends Uint8Array | Uint16Array | Uint32Array>(
  all: T,
  width: number,
  ranges: readonly RowRange[],
  taken: T,
): T {
  let at = 0;
  for (const { first, count } of ranges) {
    taken.set(all.subarray(first * width, (first + count) * width), at);
    at += count * width;
  }
  return taken;
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
