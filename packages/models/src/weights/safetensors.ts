import { ArgumentError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { parseSafetensorsHeader } from './safetensors_header.ts';
import { layOutSafetensors, storedBytes } from './safetensors_write.ts';
import type { TensorHeader } from './safetensors_write.ts';
import type { ByteFile, TensorInfo, TensorSource } from './source.ts';

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
export interface TensorData extends TensorHeader {
  /** Its elements, row-major and little-endian. */
  readonly bytes: Uint8Array;
}

/**
 * A whole `.safetensors` file in memory; see {@link layOutSafetensors} for the order of tensors.
 *
 * @throws ArgumentError for a name used twice or reserved, or a length that disagrees with shape and dtype.
 */
export function writeSafetensors(
  tensors: readonly TensorData[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  for (const { name, dtype, shape, bytes } of tensors) {
    const expected = storedBytes({ name, dtype, shape });
    if (bytes.byteLength === expected) continue;
    throw new ArgumentError(
      `Tensor '${name}' cannot be written: its ${bytes.byteLength} bytes are not ${dtype} [${shape.join(', ')}] ` +
        `(${expected} bytes).`,
      'Give exactly the bytes of its shape.',
    );
  }
  const { header, tensors: ordered, dataLength } = layOutSafetensors(tensors, metadata);
  const file = new Uint8Array(header.byteLength + dataLength);
  file.set(header);
  let offset = header.byteLength;
  for (const { bytes } of ordered) {
    file.set(bytes, offset);
    offset += bytes.byteLength;
  }
  return file;
}
