// Writes pickles, zip containers and files as `torch.save` does, also wrong ones: PyTorch itself cannot make those.
import { PickleGlobal, PickleObject, PickleReference } from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';

/** Bytes from numbers (a byte each), texts (their characters, UTF-8) and other bytes. */
export function bytesOf(...parts: readonly (number | string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const chunks = parts.map((part) =>
    typeof part === 'number' ? Uint8Array.of(part) : typeof part === 'string' ? new TextEncoder().encode(part) : part,
  );
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

export function littleEndian(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => Math.floor(value / 256 ** index) % 256);
}

/** A pickle of protocol 2 with these operations. */
export function pickleOf(...operations: readonly (number | string | Uint8Array)[]): Uint8Array {
  return bytesOf(0x80, 2, ...operations, '.');
}

/** The operations that make a value. Frozen arrays are tuples. */
export function operationsOf(value: PickleValue): Uint8Array {
  if (value === null) return bytesOf('N');
  if (typeof value === 'boolean') return bytesOf(value ? 0x88 : 0x89);
  if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
    return bytesOf('J', littleEndian(value < 0 ? value + 2 ** 32 : value, 4));
  }
  if (typeof value === 'number') {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, false);
    return bytesOf('G', bytes);
  }
  if (typeof value === 'string') {
    const text = new TextEncoder().encode(value);
    return bytesOf('X', littleEndian(text.byteLength, 4), text);
  }
  if (value instanceof Map) return bytesOf('}', '(', ...[...value].flatMap((pair) => pair.map(operationsOf)), 'u');
  if (value instanceof PickleGlobal) return globalOperation(value.name);
  if (value instanceof PickleReference) return bytesOf(operationsOf(value.id), 'Q');
  if (value instanceof PickleObject) {
    const items = value.entries.size === 0 ? '' : operationsOf(value.entries).subarray(1);
    const state = value.state === undefined ? '' : bytesOf(operationsOf(value.state), 'b');
    return bytesOf(globalOperation(value.global), operationsOf(tuple(...value.args)), 'R', items, state);
  }
  if (Array.isArray(value)) {
    const items = value.map((item: PickleValue) => operationsOf(item));
    return Object.isFrozen(value) ? bytesOf('(', ...items, 't') : bytesOf(']', '(', ...items, 'e');
  }
  throw new RangeError(`No operations are known for ${String(value)}.`);
}

export function globalOperation(name: string): Uint8Array {
  const dot = name.lastIndexOf('.');
  return bytesOf('c', name.slice(0, dot), '\n', name.slice(dot + 1), '\n');
}

export function tuple(...items: readonly PickleValue[]): PickleValue {
  return Object.freeze([...items]);
}

export function dict(entries: Readonly<Record<string, PickleValue>>): Map<PickleValue, PickleValue> {
  return new Map(Object.entries(entries));
}

export function namespace(fields: Readonly<Record<string, PickleValue>>): PickleObject {
  const made = new PickleObject('argparse.Namespace', []);
  made.state = dict(fields);
  return made;
}

export interface ZipOverrides {
  readonly method?: number;
  readonly flags?: number;
  /** In the local header alone. */
  readonly localName?: string;
  /** In the central directory alone. */
  readonly size?: number;
  readonly offset?: number;
  readonly extra?: Uint8Array;
  /** Sizes and offset in the central directory stand in 64 bits, as in files above 4 GiB. */
  readonly wide?: boolean;
}

/** A zip container of stored entries. */
export function zipOf(entries: readonly (readonly [string, Uint8Array, ZipOverrides?])[]): Uint8Array {
  const local: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  const header = (name: string, size: number, extra: number, { method = 0, flags = 0 }: ZipOverrides): Uint8Array =>
    bytesOf(
      littleEndian(20, 2),
      littleEndian(flags, 2),
      littleEndian(method, 2),
      littleEndian(0, 8),
      littleEndian(size, 4),
      littleEndian(size, 4),
      littleEndian(new TextEncoder().encode(name).byteLength, 2),
      littleEndian(extra, 2),
    );
  for (const [name, bytes, overrides = {}] of entries) {
    const { localName = name, size = bytes.byteLength, offset = at, extra = new Uint8Array(0) } = overrides;
    const start = bytesOf(
      'PK',
      3,
      4,
      header(localName, bytes.byteLength, extra.byteLength, overrides),
      localName,
      extra,
    );
    local.push(start, bytes);
    const wide = bytesOf(1, 0, 24, 0, littleEndian(size, 8), littleEndian(size, 8), littleEndian(offset, 8));
    const field = overrides.wide === true ? wide : new Uint8Array(0);
    const [stored, place] = overrides.wide === true ? [2 ** 32 - 1, 2 ** 32 - 1] : [size, offset];
    const rest = bytesOf(littleEndian(0, 10), littleEndian(place, 4));
    const start64 = header(name, stored, field.byteLength, overrides);
    central.push(bytesOf('PK', 1, 2, littleEndian(20, 2), start64, rest, name, field));
    at += start.byteLength + bytes.byteLength;
  }
  const directory = bytesOf(...central);
  const count = littleEndian(entries.length, 2);
  const end = ['PK', 5, 6, littleEndian(0, 4), count, count] as const;
  return bytesOf(
    ...local,
    directory,
    ...end,
    littleEndian(directory.byteLength, 4),
    littleEndian(at, 4),
    littleEndian(0, 2),
  );
}

export interface TensorOptions {
  readonly storage?: string;
  readonly offset?: number;
  readonly strides?: readonly number[];
  readonly length?: number;
}

/** A tensor of float32 values in the storage `key`. */
export function floatTensor(key: string, shape: readonly number[], options: TensorOptions = {}): PickleObject {
  const count = shape.reduce((product, size) => product * size, 1);
  const { storage = 'torch.FloatStorage', offset = 0, length = count } = options;
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const id = tuple('storage', new PickleGlobal(storage), key, 'cpu', length);
  return new PickleObject('torch._utils._rebuild_tensor_v2', [
    new PickleReference(id),
    offset,
    tuple(...shape),
    tuple(...(options.strides ?? strides)),
    false,
    new PickleObject('collections.OrderedDict', []),
  ]);
}

/** A file as `torch.save` writes it. */
export function torchFile(
  root: PickleValue | Uint8Array,
  storages: Readonly<Record<string, Uint8Array>>,
  more: readonly (readonly [string, Uint8Array, ZipOverrides?])[] = [['byteorder', bytesOf('little')]],
): Uint8Array {
  const structure = root instanceof Uint8Array ? root : pickleOf(operationsOf(root));
  return zipOf([
    ['archive/data.pkl', structure],
    ...Object.entries(storages).map(([key, bytes]) => [`archive/data/${key}`, bytes] as const),
    ...more.map(([name, bytes, overrides = {}]) => [`archive/${name}`, bytes, overrides] as const),
  ]);
}

export function floats(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** Numbers from 0 to below `2 ** 32`, the same for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    // Numerical Recipes' linear congruential generator.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}
