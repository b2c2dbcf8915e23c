import type { BlockDtype, QuantizedRows } from '@mambalab/kernels';
import { ArgumentError, WeightFormatError } from '@mambalab/kernels';
import { toFloat32 } from './convert.ts';
import { dequantizeBlocks, exactDtypes, GGUF_KINDS, isBlockKind, repackBlocks } from './gguf_blocks.ts';
import type { GgufKind } from './gguf_blocks.ts';
import type { GgufTensor } from './gguf_header.ts';
import type { ByteFile, SourceDtype, StoredBlocks, TensorInfo, TensorSource } from './source.ts';

/** Some rows of a tensor of a GGUF file. A vector, and each value of one, counts as a row of a matrix of one column. */
export interface TensorRows {
  readonly tensor: GgufTensor;
  readonly file: ByteFile;
  readonly first: number;
  readonly count: number;
  /** The row, counted from `first`, that stands at a place; the same when absent. */
  readonly order?: (place: number) => number;
}

/** Groups of columns that stand in another order than their names call for. */
export interface ColumnOrder {
  /** Columns of a group. */
  readonly width: number;
  /** The stored group that belongs at a place. */
  readonly order: (place: number) => number;
}

/** A tensor as Hugging Face's checkpoints have it, and what of the file it is made of. */
export interface PlacedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** One after another, all of one width. */
  readonly parts: readonly TensorRows[];
  readonly columns?: ColumnOrder;
  /** Added to every value. */
  readonly shift?: number;
  /** As in {@link TensorInfo}. */
  readonly transposed?: boolean;
  readonly transformed?: boolean;
}

/** Tensors of GGUF files as a source. Those that are quantized in blocks are read as F32, or as blocks. */
export function ggufSource(placed: readonly PlacedTensor[], dispose: () => Promise<void>): TensorSource {
  const tensors = new Map(placed.map((tensor) => [tensor.name, new Reader(tensor)]));
  const find = (name: string): Reader => {
    const reader = tensors.get(name);
    if (reader !== undefined) return reader;
    throw new ArgumentError(`There is no tensor '${name}'.`, 'Ask only for names in `tensors`.');
  };
  return {
    tensors: new Map([...tensors].map(([name, { info }]) => [name, info])),
    read: async (name, start, end, signal) => await find(name).read(start, end, signal),
    readBlocks: async (name, dtype, row, rows, signal) => await find(name).readBlocks(dtype, row, rows, signal),
    dispose,
  };
}

/** Values of a row of a part. */
const widthOf = ({ shape }: GgufTensor): number => (shape.length > 1 ? (shape[shape.length - 1] ?? 1) : 1);

const bitsOf = (kind: GgufKind): number => (GGUF_KINDS[kind].bytes * 8) / GGUF_KINDS[kind].values;

class Reader {
  readonly info: TensorInfo;
  readonly #placed: PlacedTensor;
  readonly #width: number;
  readonly #bytesPerValue: number;

  constructor(placed: PlacedTensor) {
    const [first] = placed.parts;
    if (first === undefined) throw new RangeError(`The tensor '${placed.name}' is made of nothing.`);
    this.#placed = placed;
    this.#width = widthOf(first.tensor);
    checkWhole(placed, this.#width);
    const dtype = dtypeOf(placed);
    const blocks = blocksOf(placed);
    this.#bytesPerValue = dtype === 'F32' ? 4 : 2;
    this.info = {
      name: placed.name,
      dtype,
      shape: placed.shape,
      byteLength: placed.parts.reduce((sum, { count }) => sum + count, 0) * this.#width * this.#bytesPerValue,
      file: first.file.name,
      byteOffset: first.tensor.byteOffset,
      ...(blocks && { blocks }),
      ...(placed.transposed === true && { transposed: true }),
      ...(placed.transformed === true && { transformed: true }),
    };
  }

  async read(start: number = 0, end: number = this.info.byteLength, signal?: AbortSignal): Promise<Uint8Array> {
    if (!(
      Number.isInteger(start) &&
      Number.isInteger(end) &&
      0 <= start &&
      start <= end &&
      end <= this.info.byteLength
    )) {
      throw new ArgumentError(
        `Bytes ${start} to ${end} of tensor '${this.info.name}' were asked for, but it has ${this.info.byteLength}.`,
        'Give 0 <= start <= end <= byteLength.',
      );
    }
    const rowBytes = this.#width * this.#bytesPerValue;
    const row = Math.floor(start / rowBytes);
    const rows = Math.ceil(end / rowBytes) - row;
    const bytes = new Uint8Array(rows * rowBytes);
    for (const { at, kind, stored } of await this.#rows(row, rows, signal)) {
      bytes.set(this.#values(kind, stored), at * rowBytes);
    }
    return rows * rowBytes === end - start ? bytes : bytes.slice(start - row * rowBytes, end - row * rowBytes);
  }

  async readBlocks(dtype: BlockDtype, row: number, rows: number, signal?: AbortSignal): Promise<QuantizedRows> {
    const blocksPerRow = this.#width / 32;
    const wordsPerRow = (this.#width * (dtype === 'q8' ? 8 : 4)) / 32;
    const quants = new Uint32Array(rows * wordsPerRow);
    const scales = new Uint16Array(rows * blocksPerRow);
    for (const { at, kind, stored } of await this.#rows(row, rows, signal)) {
      const packed = repackBlocks(kind, this.#reorder(stored, bitsOf(kind)), dtype);
      quants.set(packed.quants, at * wordsPerRow);
      scales.set(packed.scales, at * blocksPerRow);
    }
    return { quants, scales };
  }

  /** Stored values as the bytes of the element type that this tensor is read as. */
  #values(kind: GgufKind, stored: Uint8Array): Uint8Array {
    const { shift = 0 } = this.#placed;
    if (this.info.dtype === kind && shift === 0) return this.#reorder(stored, bitsOf(kind));
    const values = isBlockKind(kind) ? dequantizeBlocks(kind, stored) : toFloat32(stored, kind);
    const shifted = shift === 0 ? values : values.map((value) => value + shift);
    return this.#reorder(new Uint8Array(shifted.buffer, shifted.byteOffset, shifted.byteLength), 32);
  }

  /** Rows of values of some bits with their groups of columns in order. */
  #reorder(bytes: Uint8Array, bits: number): Uint8Array {
    const { columns } = this.#placed;
    if (columns === undefined) return bytes;
    const rowBytes = (this.#width * bits) / 8;
    const groupBytes = (columns.width * bits) / 8;
    const result = new Uint8Array(bytes.byteLength);
    for (let row = 0; row < bytes.byteLength; row += rowBytes) {
      for (let place = 0; place < rowBytes / groupBytes; place++) {
        const from = row + columns.order(place) * groupBytes;
        result.set(bytes.subarray(from, from + groupBytes), row + place * groupBytes);
      }
    }
    return result;
  }

  /** The stored bytes of some rows, part by part, and the row that each begins at. */
  async #rows(row: number, rows: number, signal: AbortSignal | undefined): Promise<StoredRows[]> {
    const reads: Promise<StoredRows>[] = [];
    let before = 0;
    for (const part of this.#placed.parts) {
      const begin = Math.max(row, before);
      const end = Math.min(row + rows, before + part.count);
      if (begin < end) {
        const range = { begin: begin - before, end: end - before };
        const { kind } = part.tensor;
        reads.push(readRows(part, range, signal).then((stored) => ({ at: begin - row, kind, stored })));
      }
      before += part.count;
    }
    return await Promise.all(reads);
  }
}

/** What is put together from several tensors must be as large as all of them. */
function checkWhole({ name, shape, parts }: PlacedTensor, width: number): void {
  const values = shape.reduce((product, size) => product * size, 1);
  const found = parts.reduce((sum, { tensor, count }) => sum + (widthOf(tensor) === width ? count * width : NaN), 0);
  if (values === found) return;
  const names = [...new Set(parts.map(({ tensor }) => `'${tensor.name}' (${tensor.shape.join(', ')})`))];
  throw new WeightFormatError(
    `${names.join(' and ')} do not make up '${name}' (${shape.join(', ')}).`,
    'Download or convert the model again.',
  );
}

interface StoredRows {
  readonly at: number;
  readonly kind: GgufKind;
  readonly stored: Uint8Array;
}

/** Reads further than this many bytes to save a request. */
const GAP_BYTES = 64 * 2 ** 10;

async function readRows(
  { tensor, file, first, count, order }: TensorRows,
  { begin, end }: { readonly begin: number; readonly end: number },
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const rowBytes = (widthOf(tensor) * bitsOf(tensor.kind)) / 8;
  const from = tensor.byteOffset + first * rowBytes;
  if (order === undefined) return await file.read(from + begin * rowBytes, from + end * rowBytes, signal);
  const wanted = Array.from({ length: end - begin }, (_, index) => order(begin + index));
  const bytes = new Uint8Array(wanted.length * rowBytes);
  const sorted = wanted.map((row, place) => ({ row, place })).sort((a, b) => a.row - b.row);
  const run: { row: number; place: number }[] = [];
  const readRun = async (): Promise<void> => {
    const low = run[0]?.row ?? 0;
    const high = run[run.length - 1]?.row ?? count;
    const read = await file.read(from + low * rowBytes, from + (high + 1) * rowBytes, signal);
    for (const { row, place } of run) {
      bytes.set(read.subarray((row - low) * rowBytes, (row - low + 1) * rowBytes), place * rowBytes);
    }
    run.length = 0;
  };
  for (const next of sorted) {
    const last = run[run.length - 1]?.row ?? next.row;
    // Rows that lie close together are read at once, with what is between them.
    if ((next.row - last - 1) * rowBytes > GAP_BYTES) await readRun();
    run.push(next);
  }
  if (run.length > 0) await readRun();
  return bytes;
}

/** The element type that values are read as: the stored one, or F32 where it is none, or they are computed with. */
function dtypeOf({ parts, transformed, shift = 0 }: PlacedTensor): SourceDtype & ('F32' | 'F16' | 'BF16') {
  const kinds = new Set(parts.map(({ tensor }) => tensor.kind));
  const [kind = 'F32'] = kinds;
  return kinds.size > 1 || isBlockKind(kind) || transformed === true || shift !== 0 ? 'F32' : kind;
}

function blocksOf({ parts, columns, shift = 0 }: PlacedTensor): StoredBlocks | undefined {
  const kinds = parts.map(({ tensor }) => tensor.kind);
  if (shift !== 0 || !kinds.every(isBlockKind)) return undefined;
  // Blocks that are cut cannot be passed on.
  const isWhole = columns === undefined || columns.width % 32 === 0;
  const exact = (['q8', 'q4'] as const).filter(
    (dtype) => isWhole && kinds.every((kind) => exactDtypes(kind).includes(dtype)),
  );
  return {
    kind: [...new Set(kinds)].join('+'),
    bits: kinds.reduce((sum, kind) => sum + bitsOf(kind), 0) / kinds.length,
    nearest: exact.includes('q4') ? 'q4' : 'q8',
    exact,
  };
}
