import { ArgumentError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { ByteFile, SourceDtype, TensorInfo, TensorSource } from './source.ts';
import { parseSafetensorsHeader } from './safetensors_header.ts';

/** The limit of the format's own library: a longer header is taken for a corrupt or hostile file. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/** A `.safetensors` file after its header was read and checked. */
export interface SafetensorsFile extends TensorSource {
  /** The header's `__metadata__`; empty where it has none. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads and checks the header of a `.safetensors` file; no byte of a tensor is read.
 * Layout: a little-endian u64 length, a JSON header of that length, then the tensors' bytes without gaps.
 *
 * @throws WeightFormatError naming the file, and the tensor where one is at fault.
 */
export async function openSafetensors(file: ByteFile, signal?: AbortSignal): Promise<SafetensorsFile> {
  const size = await file.size(signal);
  if (size < LENGTH_BYTES) {
    throw corrupt(file.name, `is ${size} bytes long, expected at least ${LENGTH_BYTES}.`);
  }
  const lengthBytes = await file.read(0, LENGTH_BYTES, signal);
  const headerLength = Number(
    new DataView(lengthBytes.buffer, lengthBytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true),
  );
  if (headerLength > MAX_HEADER_BYTES) {
    throw corrupt(file.name, `announces a header of ${headerLength} bytes, more than ${MAX_HEADER_BYTES}.`);
  }
  const dataStart = LENGTH_BYTES + headerLength;
  if (dataStart > size) {
    throw corrupt(file.name, `announces a header of ${headerLength} bytes, but the file has only ${size} bytes.`);
  }
  const header = await file.read(LENGTH_BYTES, dataStart, signal);
  const { tensors, metadata } = parseSafetensorsHeader(header, file.name, dataStart, size - dataStart);
  return {
    tensors,
    metadata,
    read: (name, start, end, readSignal) => readTensor(file, tensors.get(name), name, start, end, readSignal),
    dispose: () => Promise.resolve(),
  };
}

/**
 * The byte range `[start, end)` of one tensor that lies in `file`; see {@link TensorSource.read} for errors.
 * `file` and `info` are undefined where the source has no tensor called `name`.
 */
export async function readTensor(
  file: ByteFile | undefined,
  info: TensorInfo | undefined,
  name: string,
  start: number = 0,
  end: number | undefined = info?.byteLength,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  if (file === undefined || info === undefined || end === undefined) {
    throw new ArgumentError(`There is no tensor '${name}'.`, 'Ask only for names in `tensors`.');
  }
  const inRange = Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end;
  if (!inRange || end > info.byteLength) {
    throw new ArgumentError(
      `Bytes ${start} to ${end} of tensor '${name}' were asked for, but it has ${info.byteLength}.`,
      'Give 0 <= start <= end <= byteLength.',
    );
  }
  refuseSmallFloats(info);
  signal?.throwIfAborted();
  if (start === end) return new Uint8Array(0);
  return await file.read(info.byteOffset + start, info.byteOffset + end, signal);
}

function refuseSmallFloats(info: TensorInfo): void {
  if (/^F[468](_|$)/.test(info.dtype)) {
    throw new UnsupportedModelError(
      `Tensor '${info.name}' in ${info.file} is stored as ${info.dtype}, which this version does not read.`,
      'Use a checkpoint in F16, BF16 or F32.',
    );
  }
}

function corrupt(file: string, problem: string): WeightFormatError {
  return new WeightFormatError(
    `${file} is no safetensors file, or a damaged one: it ${problem}`,
    'Download or export the file again.',
  );
}

/** A tensor to be written. */
export interface TensorData {
  readonly name: string;
  readonly dtype: SourceDtype;
  readonly shape: readonly number[];
  /** Its elements, row-major and little-endian. */
  readonly bytes: Uint8Array;
}

/**
 * A whole `.safetensors` file in memory. The same tensors give the same bytes whatever their order: like the format's
 * own library it places wider element types first, then sorts by name, so that every tensor is aligned to its element;
 * the header is padded with spaces to a multiple of 8 bytes.
 *
 * @throws ArgumentError for a name used twice or reserved, or a length that disagrees with shape and dtype.
 */
export function writeSafetensors(
  tensors: readonly TensorData[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort(
    (a, b) => SOURCE_DTYPE_BITS[b.dtype] - SOURCE_DTYPE_BITS[a.dtype] || compareCodeUnits(a.name, b.name),
  );
  const entries: [string, unknown][] = [];
  const metadataEntries = Object.entries(metadata).sort(([a], [b]) => compareCodeUnits(a, b));
  if (metadataEntries.length > 0) entries.push(['__metadata__', metadataEntries]);
  const seen = new Set(['__metadata__']);
  let dataLength = 0;
  for (const { name, dtype, shape, bytes } of sorted) {
    const bits = shape.reduce((product, dimension) => product * dimension, SOURCE_DTYPE_BITS[dtype]);
    if (seen.has(name) || bits !== bytes.byteLength * 8) {
      throw new ArgumentError(
        `Tensor '${name}' cannot be written: its name is taken, or its ${bytes.byteLength} bytes are not ` +
          `${dtype} [${shape.join(', ')}] (${bits / 8} bytes).`,
        'Give each tensor its own name and exactly the bytes of its shape.',
      );
    }
    seen.add(name);
    entries.push([name, { dtype, shape, data_offsets: [dataLength, dataLength + bytes.byteLength] }]);
    dataLength += bytes.byteLength;
  }
  // Written by hand: an object would move keys like "0" to the front and lose "__proto__".
  const members = entries.map(([key, value]) => {
    const text = Array.isArray(value) ? objectText(metadataEntries) : JSON.stringify(value);
    return `${JSON.stringify(key)}:${text}`;
  });
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const headerLength = Math.ceil(json.byteLength / 8) * 8;
  const file = new Uint8Array(LENGTH_BYTES + headerLength + dataLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerLength), true);
  file.set(json, LENGTH_BYTES);
  file.fill(0x20, LENGTH_BYTES + json.byteLength, LENGTH_BYTES + headerLength);
  let offset = LENGTH_BYTES + headerLength;
  for (const { bytes } of sorted) {
    file.set(bytes, offset);
    offset += bytes.byteLength;
  }
  return file;
}

function objectText(entries: readonly (readonly [string, string])[]): string {
  return `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
}

function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
