import type { BlockDtype, QuantizedRows } from '@mambalab/kernels';
import type { Cache } from './cache.ts';

/** Element types of the safetensors format, by the names that stand in its headers. */
export type SourceDtype =
  | 'BOOL'
  | 'U8'
  | 'I8'
  | 'U16'
  | 'I16'
  | 'U32'
  | 'I32'
  | 'U64'
  | 'I64'
  | 'F16'
  | 'BF16'
  | 'F32'
  | 'F64'
  | 'C64'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'F8_E8M0'
  | 'F8_E4M3FNUZ'
  | 'F8_E5M2FNUZ'
  | 'F6_E2M3'
  | 'F6_E3M2'
  | 'F4';

/** Bits of one element of each {@link SourceDtype}. */
export const SOURCE_DTYPE_BITS: Readonly<Record<SourceDtype, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  U16: 16,
  I16: 16,
  U32: 32,
  I32: 32,
  U64: 64,
  I64: 64,
  F16: 16,
  BF16: 16,
  F32: 32,
  F64: 64,
  C64: 64,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
};

/** Whether `name` is the name of an element type that the safetensors format defines. */
export function isSourceDtype(name: unknown): name is SourceDtype {
  return typeof name === 'string' && Object.hasOwn(SOURCE_DTYPE_BITS, name);
}

/** What is known of a tensor that lies in its file as blocks of quants and scales. */
export interface StoredBlocks {
  /** What its file calls the format. */
  readonly kind: string;
  /** Bits of a value in the file, its share of the scales included. */
  readonly bits: number;
  /** The block format of the GPU that loses least at a similar size. */
  readonly nearest: BlockDtype;
  /** The block formats of the GPU that hold exactly the same numbers: {@link TensorSource.readBlocks} gives them. */
  readonly exact: readonly BlockDtype[];
}

/** Where a tensor lies: nothing of its data is in memory. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: SourceDtype;
  /** Row-major dimensions; empty for a scalar. */
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The file that holds it, by its name in the folder. */
  readonly file: string;
  /** Offset in bytes of its first element from the start of that file. */
  readonly byteOffset: number;
  /** Where it is stored in blocks. Its values can be read as `dtype` all the same; sizes here are those of such values. */
  readonly blocks?: StoredBlocks;
  /** What is read is the transpose of a matrix of this shape. */
  readonly transposed?: boolean;
  /** The transform that a model asks for was applied when it was stored. */
  readonly transformed?: boolean;
}

/** Bits that a value of a tensor takes in its file. */
export function storedBits({ blocks, dtype }: TensorInfo): number {
  return blocks?.bits ?? SOURCE_DTYPE_BITS[dtype];
}

/** Tensors that can be looked up by name and read by byte range. */
export interface TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /**
   * Bytes `[start, end)` counted from the tensor's own first byte (default: all of it), as stored (little-endian).
   * The caller may keep and change them.
   *
   * @throws ArgumentError for a name that is not in `tensors` or a range outside the tensor;
   * UnsupportedModelError for an element type that nothing here computes with (8-bit floats and smaller);
   * WeightFormatError if the file ends too early; `signal.reason` if aborted.
   */
  read(name: string, start?: number, end?: number, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Whole rows of a tensor in one of the formats of its `blocks.exact`, as the GPU stores them; there where a tensor has
   * `blocks`. Rows are made of the last dimension.
   */
  readBlocks?(name: string, dtype: BlockDtype, row: number, rows: number, signal?: AbortSignal): Promise<QuantizedRows>;
  /** Closes the files. Reading afterwards fails. */
  dispose(): Promise<void>;
}

/** A file of known size that is read by byte range: on disk, behind HTTP, or in a browser. */
export interface ByteFile {
  /** Its name in the folder, for messages. */
  readonly name: string;
  /** Size in bytes. */
  size(signal?: AbortSignal): Promise<number>;
  /**
   * Exactly the bytes `[start, end)`.
   *
   * @throws WeightFormatError if the file holds fewer.
   */
  read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** A text that is another one for another content; undefined where nothing tells contents apart. */
  identity?(signal?: AbortSignal): Promise<string | undefined>;
}

/** Where a place keeps what it brought. */
export interface KeptIn {
  readonly cache: Cache;
  /** What it is called in lists of what is stored. */
  readonly source: string;
}

/** A flat place that holds a checkpoint's files. Names are relative, with `/` between parts. */
export interface Folder {
  /** What the user called it (a path, a URL), for messages. */
  readonly label: string;
  /** Where a place behind a network keeps its files. */
  readonly kept?: KeptIn | undefined;
  /** The names of its files, where the place can tell. */
  list?(): Promise<readonly string[]>;
  /** The file of that name, or undefined where there is none. */
  file(name: string, signal?: AbortSignal): Promise<ByteFile | undefined>;
  /** The whole file as UTF-8 text, or undefined where there is none. */
  readText(name: string, signal?: AbortSignal): Promise<string | undefined>;
  /**
   * Says that most bytes of the files that were opened will be read now, in their order. A place behind a network then
   * fetches large parts, which several reads share.
   *
   * @returns bytes that will be added to its cache
   * @throws StorageQuotaError if they are to be kept, and there is no room
   */
  beginStreaming?(signal?: AbortSignal): Promise<number>;
  /**
   * Says that all is read. What is kept for later is completed and checked.
   *
   * @throws IntegrityError if the content of a file is not what its server names
   */
  endStreaming?(signal?: AbortSignal): Promise<void>;
  /** Closes what is open. What is on its way ends first. */
  dispose(): Promise<void>;
}
