// GGUF files made in tests: the layout of version 3, as the Python package gguf writes it.

/** Numbers of the types of values. */
const TYPES = { u8: 0, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9, u64: 10, f64: 12 } as const;

type ElementType = Exclude<keyof typeof TYPES, 'array'>;

/** A value and the type that it is written as, or a list of such values. */
export interface GgufValue {
  readonly type: ElementType;
  readonly value: number | boolean | string | readonly (number | boolean | string)[];
}

/** Numbers of the storage types that tests write. */
const KINDS = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 8, BF16: 30 } as const;

/** A tensor to be written. */
export interface GgufData {
  readonly name: string;
  readonly kind: keyof typeof KINDS | number;
  /** Row-major. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Bytes that grow. */
class Bytes {
  readonly #parts: Uint8Array[] = [];
  length = 0;

  add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.byteLength;
  }

  number(type: Exclude<ElementType, 'string' | 'bool'>, value: number): void {
    const view = new DataView(new ArrayBuffer({ u8: 1, u32: 4, i32: 4, f32: 4, u64: 8, f64: 8 }[type]));
    if (type === 'u8') view.setUint8(0, value);
    if (type === 'u32') view.setUint32(0, value, true);
    if (type === 'i32') view.setInt32(0, value, true);
    if (type === 'f32') view.setFloat32(0, value, true);
    if (type === 'u64') view.setBigUint64(0, BigInt(value), true);
    if (type === 'f64') view.setFloat64(0, value, true);
    this.add(new Uint8Array(view.buffer));
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.number('u64', bytes.byteLength);
    this.add(bytes);
  }

  element(type: ElementType, value: number | boolean | string): void {
    if (type === 'string') this.text(String(value));
    else if (type === 'bool') this.number('u8', value === true ? 1 : 0);
    else this.number(type, Number(value));
  }

  pad(alignment: number): void {
    this.add(new Uint8Array(Math.ceil(this.length / alignment) * alignment - this.length));
  }

  joined(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.byteLength;
    }
    return all;
  }
}

/** The type that a plain value is written as: whole numbers as u32 (i32 in lists), others as f32. */
function typed(value: GgufValue | GgufValue['value']): GgufValue {
  if (typeof value === 'object' && 'type' in value) return value;
  const [first] = Array.isArray(value) ? value : [value];
  if (typeof first === 'string') return { type: 'string', value };
  if (typeof first === 'boolean') return { type: 'bool', value };
  const isWhole = (Array.isArray(value) ? value : [value]).every(Number.isInteger);
  return { type: !isWhole ? 'f32' : Array.isArray(value) ? 'i32' : 'u32', value };
}

export type GgufFieldValues = Readonly<Record<string, GgufValue | GgufValue['value']>>;

/** A GGUF file. `general.alignment` among the fields is heeded. */
export function writeGguf(
  fields: GgufFieldValues,
  tensors: readonly GgufData[],
  version: number = 3,
): Uint8Array<ArrayBuffer> {
  const given = fields['general.alignment'];
  const alignment = typeof given === 'number' ? given : 32;
  const out = new Bytes();
  out.add(new TextEncoder().encode('GGUF'));
  out.number('u32', version);
  out.number('u64', tensors.length);
  out.number('u64', Object.keys(fields).length);
  for (const [key, field] of Object.entries(fields)) {
    const { type, value } = typed(field);
    out.text(key);
    if (Array.isArray(value)) {
      out.number('u32', TYPES.array);
      out.number('u32', TYPES[type]);
      out.number('u64', value.length);
      for (const element of value) out.element(type, element);
    } else if (typeof value !== 'object') {
      out.number('u32', TYPES[type]);
      out.element(type, value);
    }
  }
  let offset = 0;
  for (const { name, kind, shape, bytes } of tensors) {
    out.text(name);
    out.number('u32', shape.length);
    for (const size of shape.toReversed()) out.number('u64', size);
    out.number('u32', typeof kind === 'number' ? kind : KINDS[kind]);
    out.number('u64', offset);
    offset += Math.ceil(bytes.byteLength / alignment) * alignment;
  }
  out.pad(alignment);
  for (const { bytes } of tensors) {
    out.add(bytes);
    out.pad(alignment);
  }
  return out.joined();
}
