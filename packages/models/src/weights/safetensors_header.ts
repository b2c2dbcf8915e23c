import { WeightFormatError } from '@mambalab/kernels';
import { duplicateKey } from './json.ts';
import { SOURCE_DTYPE_BITS, isSourceDtype } from './source.ts';
import type { TensorInfo } from './source.ts';

/** A checked safetensors header. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Parses and checks the JSON header of a safetensors file.
 *
 * @param header the header's bytes, without the length before them
 * @param file the file's name, for messages and {@link TensorInfo.file}
 * @param dataStart offset in bytes of the tensors' data from the start of the file
 * @param dataLength bytes of data after the header
 * @throws WeightFormatError if it is not a JSON object without repeated keys, or a tensor's dtype, shape or offsets are
 * not what the format allows, or the tensors overlap, leave gaps, or do not fill the data exactly.
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  file: string,
  dataStart: number,
  dataLength: number,
): SafetensorsHeader {
  const entries = Object.entries(parseObject(header, file));
  let metadata: ReadonlyMap<string, string> = new Map();
  const infos: TensorInfo[] = [];
  for (const [name, value] of entries) {
    if (name === '__metadata__') metadata = parseMetadata(value, file);
    else infos.push(parseTensor(name, value, file, dataStart, dataLength));
  }
  checkCoverage(infos, file, dataStart, dataLength);
  return { tensors: new Map(infos.map((info) => [info.name, info])), metadata };
}

function parseObject(header: Uint8Array, file: string): object {
  let value: unknown;
  let text: string;
  try {
    // ignoreBOM keeps a byte order mark in the text, where JSON.parse refuses it.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    value = JSON.parse(text);
  } catch (cause) {
    throw headerError(file, 'is not JSON in UTF-8', cause);
  }
  if (!isObject(value)) throw headerError(file, 'is JSON but no object');
  const repeated = duplicateKey(text, 2);
  if (repeated !== undefined) throw headerError(file, `has the key ${JSON.stringify(repeated)} twice`);
  return value;
}

function parseMetadata(value: unknown, file: string): Map<string, string> {
  if (!isObject(value)) throw headerError(file, 'has a `__metadata__` that is no object');
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw headerError(file, `has a \`__metadata__\` whose '${key}' is no string`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(name: string, value: unknown, file: string, dataStart: number, dataLength: number): TensorInfo {
  if (!isObject(value)) throw tensorError(file, name, `is ${JSON.stringify(value)}, expected an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isSourceDtype(dtype)) {
    const known = Object.keys(SOURCE_DTYPE_BITS).join(', ');
    throw tensorError(file, name, `has the dtype ${JSON.stringify(dtype)}, expected one of ${known}`);
  }
  if (!isCountArray(shape)) {
    throw tensorError(file, name, `has the shape ${JSON.stringify(shape)}, expected an array of integers from 0 up`);
  }
  if (!isCountArray(offsets) || offsets.length !== 2) {
    throw tensorError(file, name, `has the data_offsets ${JSON.stringify(offsets)}, expected two integers from 0 up`);
  }
  const [begin = 0, end = 0] = offsets;
  if (begin > end || end > dataLength) {
    throw tensorError(file, name, `lies at bytes ${begin} to ${end}, outside the ${dataLength} bytes of data`);
  }
  const bits = shape.reduce((product, dimension) => product * dimension, SOURCE_DTYPE_BITS[dtype]);
  if (!Number.isSafeInteger(bits) || bits !== (end - begin) * 8) {
    throw tensorError(
      file,
      name,
      `is ${dtype} [${shape.join(', ')}], that is ${bits / 8} bytes, but has ${end - begin} bytes of data`,
    );
  }
  return { name, dtype, shape, byteLength: end - begin, file, byteOffset: dataStart + begin };
}

/** The format allows neither holes nor overlaps, so that no byte of a file can hide from a reader. */
function checkCoverage(infos: readonly TensorInfo[], file: string, dataStart: number, dataLength: number): void {
  const sorted = [...infos].sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let expected = dataStart;
  for (const { name, byteOffset, byteLength } of sorted) {
    if (byteOffset !== expected) {
      const problem = byteOffset < expected ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw tensorError(file, name, `${problem}: its data begins at byte ${byteOffset}, expected ${expected}`);
    }
    expected += byteLength;
  }
  if (expected !== dataStart + dataLength) {
    const extra = dataStart + dataLength - expected;
    throw headerError(file, `accounts for all but the last ${extra} bytes of the file`);
  }
}

/** Safe integers only: a larger number has already lost digits in JSON.parse. */
function isCountArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function headerError(file: string, problem: string, cause?: unknown): WeightFormatError {
  return new WeightFormatError(
    `The safetensors header of ${file} ${problem}.`,
    'The file is damaged or of another format: download or export it again.',
    cause === undefined ? undefined : { cause },
  );
}

function tensorError(file: string, name: string, problem: string): WeightFormatError {
  return headerError(file, `is wrong for tensor ${JSON.stringify(name)}: it ${problem}`);
}
