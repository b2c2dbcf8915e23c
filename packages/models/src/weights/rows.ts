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

/** Reads the rows of a weight in their order, in blocks of about 16 MiB. */
export async function* rowBlocks(
  spec: WeightSpec,
  source: TensorSource,
  signal?: AbortSignal,
): AsyncGenerator<RowBlock> {
  const width = rowWidth(spec);
  // Parts that are stored by turns follow each other in one tensor.
  let whole: WholeTensor | undefined;
  let row = 0;
  for (const part of spec.sources) {
    const info = source.tensors.get(part.name);
    if (info === undefined) throw new RangeError(`The plan names the tensor '${part.name}', which the source lacks.`);
    const valueBytes = SOURCE_DTYPE_BITS[info.dtype] / 8;
    const block = { source: part.name, dtype: info.dtype, scale: part.scale ?? 1 };
    if (isReadWhole(part, width, valueBytes)) {
      if (!holds(whole, part)) whole = await readWhole(part, width, valueBytes, source, signal);
      const bytes = rangesOf(whole.bytes, part, width * valueBytes);
      const rows = takenRows(part, width);
      yield { ...block, row, rows, bytes };
      row += rows;
      continue;
    }
    for await (const { rows, bytes } of partBlocks(part, width, width * valueBytes, source, signal)) {
      yield { ...block, row, rows, bytes };
      row += rows;
    }
  }
}

const storedRows = ({ shape }: SourceTensor, width: number): number =>
  shape.reduce((product, size) => product * size, 1) / width;

function takenRows(part: SourceTensor, width: number): number {
  return part.ranges?.reduce((sum, { count }) => sum + count, 0) ?? storedRows(part, width);
}

/** All of a tensor, transposed where its columns are the rows of the weight. */
interface WholeTensor {
  readonly name: string;
  readonly transposed: boolean;
  readonly bytes: Uint8Array;
}

/** Columns are scattered over the whole tensor, and many short ranges cost more to ask for than what lies between. */
function isReadWhole(part: SourceTensor, width: number, valueBytes: number): boolean {
  const { transposed, ranges = [] } = part;
  return transposed === true || (ranges.length > 1 && storedRows(part, width) * width * valueBytes <= BLOCK_BYTES);
}

const holds = (whole: WholeTensor | undefined, part: SourceTensor): whole is WholeTensor =>
  whole?.name === part.name && whole.transposed === (part.transposed ?? false);

async function readWhole(
  part: SourceTensor,
  width: number,
  valueBytes: number,
  source: TensorSource,
  signal: AbortSignal | undefined,
): Promise<WholeTensor> {
  signal?.throwIfAborted();
  const { name, transposed = false } = part;
  const stored = await source.read(name, 0, storedRows(part, width) * width * valueBytes, signal);
  return { name, transposed, bytes: transposed ? transpose(stored, width, valueBytes) : stored };
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

async function* partBlocks(
  part: SourceTensor,
  width: number,
  rowBytes: number,
  source: TensorSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<{ readonly rows: number; readonly bytes: Uint8Array }> {
  const step = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
  for (const { first, count } of part.ranges ?? [{ first: 0, count: storedRows(part, width) }]) {
    for (let begin = first; begin < first + count; begin += step) {
      signal?.throwIfAborted();
      const rows = Math.min(step, first + count - begin);
      yield { rows, bytes: await source.read(part.name, begin * rowBytes, (begin + rows) * rowBytes, signal) };
    }
  }
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
