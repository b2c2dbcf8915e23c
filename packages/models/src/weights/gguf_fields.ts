import { WeightFormatError } from '@mambalab/kernels';

/** Types of values in the order of their numbers in the format. */
export const VALUE_TYPES = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;

export type GgufValueType = (typeof VALUE_TYPES)[number];
export type GgufElementType = Exclude<GgufValueType, 'array'>;

/** Bytes of one element; of a string the least, its length alone. */
export const ELEMENT_BYTES: Readonly<Record<GgufElementType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** A value where it stands in the header. */
export interface StoredValue {
  readonly type: GgufElementType;
  /** Elements of an array; undefined for a single value. */
  readonly count: number | undefined;
  readonly start: number;
  readonly end: number;
}

type Value = number | bigint | boolean | string;

/** The metadata of a GGUF file, decoded field by field when it is asked for. Every error names the key. */
export class GgufFields {
  readonly file: string;
  readonly #values: ReadonlyMap<string, StoredValue>;
  readonly #bytes: Uint8Array;
  /** What all keys begin with that are asked for. */
  readonly #prefix: string;

  /** @param bytes of the file's front: whole values, bounds checked */
  constructor(file: string, values: ReadonlyMap<string, StoredValue>, bytes: Uint8Array, prefix: string = '') {
    this.file = file;
    this.#values = values;
    this.#bytes = bytes;
    this.#prefix = prefix;
  }

  /** The fields whose keys begin with `prefix`, by the rest of their keys. */
  under(prefix: string): GgufFields {
    return new GgufFields(this.file, this.#values, this.#bytes, this.#prefix + prefix);
  }

  has(key: string): boolean {
    return this.#values.has(this.#prefix + key);
  }

  /** The keys under the prefix. */
  keys(): string[] {
    const { length } = this.#prefix;
    return [...this.#values.keys()].filter((key) => key.startsWith(this.#prefix)).map((key) => key.slice(length));
  }

  string(key: string, fallback?: string): string {
    const value = this.#single(key) ?? fallback;
    if (typeof value === 'string') return value;
    throw this.error(key, 'a text', value);
  }

  optionalString(key: string): string | undefined {
    return this.has(key) ? this.string(key) : undefined;
  }

  number(key: string, fallback?: number): number {
    const value = this.#single(key) ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw this.error(key, 'a number', value);
  }

  optionalNumber(key: string): number | undefined {
    return this.has(key) ? this.number(key) : undefined;
  }

  /** A whole number from 0 up: a token or a count. */
  count(key: string, fallback?: number): number {
    const value = this.#single(key) ?? fallback;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.error(key, 'a whole number from 0 up', value);
  }

  optionalCount(key: string): number | undefined {
    return this.has(key) ? this.count(key) : undefined;
  }

  /** A positive whole number. */
  size(key: string, fallback?: number): number {
    const value = this.count(key, fallback);
    if (value > 0) return value;
    throw this.error(key, 'a positive whole number', value);
  }

  optionalSize(key: string): number | undefined {
    return this.has(key) ? this.size(key) : undefined;
  }

  boolean(key: string, fallback?: boolean): boolean {
    const value = this.#single(key) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.error(key, 'true or false', value);
  }

  optionalBoolean(key: string): boolean | undefined {
    return this.has(key) ? this.boolean(key) : undefined;
  }

  strings(key: string): string[] | undefined {
    return this.#array(key, (value) => typeof value === 'string', 'a list of texts');
  }

  numbers(key: string): number[] | undefined {
    return this.#array(key, (value) => typeof value === 'number', 'a list of numbers');
  }

  booleans(key: string): boolean[] | undefined {
    return this.#array(key, (value) => typeof value === 'boolean', 'a list of true and false');
  }

  /** Whether there is more than one value under a key. */
  isList(key: string): boolean {
    return this.#values.get(this.#prefix + key)?.count !== undefined;
  }

  /** A whole number from 0 up for each block of the model: one for all, or a list of as many. */
  perBlock(key: string, blocks: number, fallback?: number): number[] {
    const stored = this.#values.get(this.#prefix + key);
    if (stored?.count === undefined) {
      const value = this.count(key, fallback);
      return Array.from({ length: blocks }, () => value);
    }
    if (stored.count !== blocks) throw this.error(key, `${blocks} numbers`, `${stored.count} values`);
    const values = this.numbers(key) ?? [];
    const wrong = values.find((value) => !Number.isSafeInteger(value) || value < 0);
    if (wrong !== undefined) throw this.error(key, 'whole numbers from 0 up', wrong);
    return values;
  }

  error(key: string, expected: string, found: unknown): WeightFormatError {
    const text =
      found === undefined ? 'nothing' : typeof found === 'bigint' ? String(found) : JSON.stringify(found).slice(0, 80);
    return new WeightFormatError(
      `${this.file}: '${this.#prefix}${key}' must be ${expected}; found ${text}.`,
      'Download or convert the model again.',
    );
  }

  #single(key: string): Value | undefined {
    const stored = this.#values.get(this.#prefix + key);
    if (stored === undefined) return undefined;
    if (stored.count !== undefined) throw this.error(key, 'a single value', `a list of ${stored.count}`);
    const [value] = this.#decode(key, stored);
    return stored.type === 'f32' && typeof value === 'number' ? shortest(value) : value;
  }

  #array<T extends Value>(key: string, is: (value: Value) => value is T, expected: string): T[] | undefined {
    const stored = this.#values.get(this.#prefix + key);
    if (stored === undefined) return undefined;
    if (stored.count === undefined) throw this.error(key, expected, 'a single value');
    const values: T[] = [];
    for (const value of this.#decode(key, stored)) {
      if (!is(value)) throw this.error(key, expected, value);
      values.push(value);
    }
    return values;
  }

  *#decode(key: string, { type, start, end }: StoredValue): Generator<Value> {
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + start, end - start);
    if (type !== 'string') {
      for (let at = 0; at < view.byteLength; at += ELEMENT_BYTES[type]) {
        const value = DECODERS[type](view, at);
        if (value === undefined) throw this.error(key, 'true or false, 1 or 0', view.getUint8(at));
        yield value;
      }
      return;
    }
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    for (let at = 0; at < view.byteLength;) {
      const length = Number(view.getBigUint64(at, true));
      const bytes = this.#bytes.subarray(start + at + 8, start + at + 8 + length);
      at += 8 + length;
      let text: string;
      try {
        text = decoder.decode(bytes);
      } catch {
        throw this.error(key, 'text in UTF-8', [...bytes.subarray(0, 16)]);
      }
      yield text;
    }
  }
}

/** The shortest decimal that float32 rounds to a value: what stood in the configuration that it comes from. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const decimal = Number(value.toPrecision(digits));
    if (Math.fround(decimal) === value) return decimal;
  }
  return value;
}

/** Whole numbers as numbers where these hold them. */
const whole = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);

const DECODERS: Readonly<
  Record<Exclude<GgufElementType, 'string'>, (view: DataView, at: number) => Value | undefined>
> = {
  u8: (view, at) => view.getUint8(at),
  i8: (view, at) => view.getInt8(at),
  u16: (view, at) => view.getUint16(at, true),
  i16: (view, at) => view.getInt16(at, true),
  u32: (view, at) => view.getUint32(at, true),
  i32: (view, at) => view.getInt32(at, true),
  f32: (view, at) => view.getFloat32(at, true),
  bool: (view, at) => [false, true][view.getUint8(at)],
  u64: (view, at) => whole(view.getBigUint64(at, true)),
  i64: (view, at) => whole(view.getBigInt64(at, true)),
  f64: (view, at) => view.getFloat64(at, true),
};
