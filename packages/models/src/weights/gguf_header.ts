import { UnsupportedModelError } from '@mambalab/kernels';
import { GGUF_KINDS, GGUF_TYPE_NAMES } from './gguf_blocks.ts';
import type { GgufKind } from './gguf_blocks.ts';
import { damaged, GgufCursor } from './gguf_cursor.ts';
import { ELEMENT_BYTES, GgufFields, VALUE_TYPES } from './gguf_fields.ts';
import type { GgufValueType, StoredValue } from './gguf_fields.ts';
import type { ByteFile } from './source.ts';

// `@huggingface/gguf` reads the same, but only from URLs and, in Node, paths: not from a file that a user chose in a page.
// It makes a JavaScript value of every token whether or not one is asked for, compares no offset with the file's size, and
// its errors name neither key nor tensor.

/** A tensor of a GGUF file: where it lies and how it is stored. */
export interface GgufTensor {
  readonly name: string;
  readonly kind: GgufKind;
  /** Row-major: the last dimension is that of a row. The file has them the other way round. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** What stands in front of the tensors' data, checked. */
export interface GgufHeader {
  readonly fields: GgufFields;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

const MAGIC = 0x46554747;
const DEFAULT_ALIGNMENT = 32;
/** The format's own library knows no more. */
const MAX_DIMENSIONS = 4;
/** Of a key or the name of a tensor: more than any that is known, and short enough for a message. */
const MAX_NAME_BYTES = 1024;

/**
 * Reads and checks the header of a GGUF file (versions 2 and 3, little-endian). Its arrays stay undecoded until they are
 * asked for, and no byte of a tensor is read.
 *
 * @throws WeightFormatError for whatever the format does not allow, naming the key or the tensor; UnsupportedModelError
 *   for versions and storage types that are not read here
 */
export async function readGgufHeader(file: ByteFile, signal?: AbortSignal): Promise<GgufHeader> {
  const cursor = await GgufCursor.open(file, signal);
  await cursor.need(24, 'its first values');
  if (cursor.u32() !== MAGIC) throw damaged(file, 'does not begin with "GGUF"');
  checkVersion(file, cursor.u32());
  const tensorCount = cursor.u64('its count of tensors');
  const keyCount = cursor.u64('its count of keys');
  // A tensor takes at least 24 bytes of the header, a key 13.
  if (tensorCount * 24 > cursor.rest || keyCount * 13 > cursor.rest) {
    throw damaged(file, `announces ${tensorCount} tensors and ${keyCount} keys in ${cursor.size} bytes`);
  }
  const values = new Map<string, StoredValue>();
  for (let index = 0; index < keyCount; index++) {
    const what = `key ${index} of ${keyCount}`;
    const key = await readString(cursor, what);
    if (values.has(key)) throw damaged(file, `has the key ${JSON.stringify(key)} twice`);
    values.set(key, await readValue(cursor, key));
  }
  const infos: TensorInfo[] = [];
  for (let index = 0; index < tensorCount; index++) infos.push(await readTensorInfo(cursor, index, tensorCount));
  const fields = new GgufFields(file.name, values, cursor.bytes);
  const alignment = fields.optionalSize('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (2 ** Math.round(Math.log2(alignment)) !== alignment) {
    throw damaged(file, `has ${alignment} as 'general.alignment', expected a power of two`);
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  return { fields, tensors: placeTensors(infos, file, { dataStart, alignment, size: cursor.size }) };
}

function checkVersion(file: ByteFile, version: number): void {
  if (version === 2 || version === 3) return;
  const isSwapped = version === 0x02000000 || version === 0x03000000;
  throw new UnsupportedModelError(
    isSwapped ? `${file.name} is a big-endian GGUF file.` : `${file.name} is a GGUF file of version ${version}.`,
    'Supported are versions 2 and 3, little-endian: convert the model again with current tools.',
  );
}

async function readString(cursor: GgufCursor, what: string): Promise<string> {
  await cursor.need(8, what);
  const length = cursor.u64(`the length of the name of ${what}`);
  if (length > MAX_NAME_BYTES) {
    throw damaged(cursor.file, `has a name of ${length} bytes for ${what}, expected at most ${MAX_NAME_BYTES}`);
  }
  await cursor.need(length, what);
  const bytes = cursor.bytes.subarray(cursor.position, cursor.position + length);
  cursor.skip(length);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw damaged(cursor.file, `has bytes that are no UTF-8 as the name of ${what}`);
  }
}

async function readType(cursor: GgufCursor, key: string): Promise<GgufValueType> {
  await cursor.need(4, `'${key}'`);
  const id = cursor.u32();
  const type = VALUE_TYPES[id];
  if (type === undefined) throw damaged(cursor.file, `has a value of the unknown type ${id} under '${key}'`);
  return type;
}

async function readValue(cursor: GgufCursor, key: string): Promise<StoredValue> {
  const type = await readType(cursor, key);
  if (type !== 'array') {
    const start = cursor.position;
    await skipElements(cursor, type, 1, key);
    return { type, count: undefined, start, end: cursor.position };
  }
  const elementType = await readType(cursor, key);
  // No known writer nests them, and without depth nothing can be nested too deeply.
  if (elementType === 'array') throw damaged(cursor.file, `has an array of arrays under '${key}'`);
  await cursor.need(8, `'${key}'`);
  const count = cursor.u64(`the length of '${key}'`);
  const start = cursor.position;
  await skipElements(cursor, elementType, count, key);
  return { type: elementType, count, start, end: cursor.position };
}

async function skipElements(
  cursor: GgufCursor,
  type: Exclude<GgufValueType, 'array'>,
  count: number,
  key: string,
): Promise<void> {
  const least = count * ELEMENT_BYTES[type];
  if (least > cursor.rest) {
    throw damaged(
      cursor.file,
      `announces ${count} values (${type}) under '${key}', more than its ${cursor.size} bytes`,
    );
  }
  const what = `'${key}'`;
  if (type !== 'string') {
    await cursor.need(least, what);
    cursor.skip(least);
    return;
  }
  for (let index = 0; index < count; index++) {
    // Waiting for each of 100,000 tokens would take longer than reading them.
    if (!cursor.has(8)) await cursor.need(8, what);
    const length = cursor.u64(`the length of a text under ${what}`);
    if (!cursor.has(length)) await cursor.need(length, what);
    cursor.skip(length);
  }
}

interface TensorInfo {
  readonly name: string;
  readonly kind: GgufKind;
  readonly shape: readonly number[];
  /** From the start of the data. */
  readonly offset: number;
}

async function readTensorInfo(cursor: GgufCursor, index: number, count: number): Promise<TensorInfo> {
  const { file } = cursor;
  const name = await readString(cursor, `tensor ${index} of ${count}`);
  const what = `the description of tensor '${name}'`;
  await cursor.need(4, what);
  const dimensions = cursor.u32();
  if (dimensions > MAX_DIMENSIONS) {
    throw damaged(file, `gives tensor '${name}' ${dimensions} dimensions, expected at most ${MAX_DIMENSIONS}`);
  }
  await cursor.need(8 * dimensions + 12, what);
  const shape = Array.from({ length: dimensions }, () => cursor.u64(`a dimension of tensor '${name}'`)).toReversed();
  const typeId = cursor.u32();
  const offset = cursor.u64(`the offset of tensor '${name}'`);
  const kind = Object.hasOwn(GGUF_TYPE_NAMES, typeId) ? GGUF_TYPE_NAMES[typeId] : undefined;
  if (kind !== undefined && isKind(kind)) return { name, kind, shape, offset };
  throw new UnsupportedModelError(
    `Tensor '${name}' in ${file.name} is stored as ${kind ?? `type ${typeId}`}, which this version does not read.`,
    `Supported are: ${Object.keys(GGUF_KINDS).join(', ')}.`,
  );
}

const isKind = (name: string): name is GgufKind => Object.hasOwn(GGUF_KINDS, name);

interface Layout {
  readonly dataStart: number;
  readonly alignment: number;
  readonly size: number;
}

/** Where each tensor lies in the file: inside of it, aligned, and apart from the others. */
function placeTensors(infos: readonly TensorInfo[], file: ByteFile, layout: Layout): Map<string, GgufTensor> {
  const { dataStart, alignment, size } = layout;
  const tensors = new Map<string, GgufTensor>();
  for (const { name, kind, shape, offset } of infos) {
    const { values: blockValues, bytes: blockBytes } = GGUF_KINDS[kind];
    const width = shape[shape.length - 1] ?? 1;
    const described = `tensor '${name}' (${kind}, ${shape.join(' x ')})`;
    if (shape.includes(0)) throw damaged(file, `has ${described}, which holds nothing`);
    if (width % blockValues !== 0) {
      throw damaged(file, `has ${described}, whose rows are no whole blocks of ${blockValues} values`);
    }
    const byteLength = (shape.reduce((product, length) => product * length, 1) / blockValues) * blockBytes;
    const byteOffset = dataStart + offset;
    if (!Number.isSafeInteger(byteLength) || byteOffset + byteLength > size) {
      throw damaged(file, `has ${described} at byte ${byteOffset}, which does not fit into its ${size} bytes`);
    }
    if (offset % alignment !== 0) {
      throw damaged(file, `has ${described} at offset ${offset}, which is no multiple of the alignment, ${alignment}`);
    }
    if (tensors.has(name)) throw damaged(file, `has tensor '${name}' twice`);
    tensors.set(name, { name, kind, shape, byteOffset, byteLength });
  }
  checkApart([...tensors.values()], file);
  return tensors;
}

function checkApart(tensors: readonly GgufTensor[], file: ByteFile): void {
  const sorted = tensors.toSorted((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = 0;
  let before = '';
  for (const { name, byteOffset, byteLength } of sorted) {
    if (byteOffset < end) throw damaged(file, `has tensor '${name}' begin inside of tensor '${before}'`);
    end = byteOffset + byteLength;
    before = name;
  }
}
