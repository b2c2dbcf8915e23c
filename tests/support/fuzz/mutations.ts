import type { Random } from '../numbers.ts';

/** Values that lengths, counts and offsets of damaged files take. */
const TELLING = [0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff] as const;

/** What a value of a JSON file is exchanged for. */
const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -0,
  1,
  -1,
  0.5,
  7,
  255,
  65_536,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 53,
  2 ** 53 + 2,
  2 ** 63,
  1e308,
  -1e308,
  1e-320,
  { __float__: 'NaN' },
  { __float__: 'Infinity' },
  { __float__: '-Infinity' },
  '',
  'x',
  '__proto__',
  '\ud800',
  'a'.repeat(300),
  '../../etc/passwd.safetensors',
  [],
  {},
  [[]],
  [-1],
  [0, 0],
];

const KEYS = ['', '__proto__', 'constructor', 'toString', 'length', 'x', '__metadata__'] as const;

const pick = <T>(random: Random, items: readonly [T, ...T[]] | readonly T[]): T => {
  const item = items[random.integer(0, items.length - 1)];
  if (item === undefined) throw new RangeError('There is nothing to pick from.');
  return item;
};

export function joinBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

/**
 * One to three changes: bits, bytes, numbers, a piece cut out, doubled or made up, or an end that is cut off.
 *
 * @param front changes begin in this many bytes
 */
export function mutateBytes(original: Uint8Array, random: Random, front: number = Infinity): Uint8Array<ArrayBuffer> {
  let bytes = Uint8Array.from(original);
  for (let change = random.integer(1, 3); change > 0 && bytes.byteLength > 16; change--) {
    const at = random.integer(0, Math.min(front, bytes.byteLength) - 9);
    const length = random.integer(1, 40);
    const view = new DataView(bytes.buffer);
    switch (random.integer(0, 8)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.integer(0, 7));
        break;
      case 1:
        bytes[at] = random.integer(0, 255);
        break;
      case 2:
        view.setUint32(at, pick(random, TELLING), true);
        break;
      case 3:
        view.setBigUint64(at, BigInt(pick(random, TELLING)) << 32n, true);
        break;
      case 4:
        view.setUint16(at, pick(random, TELLING) & 0xffff, true);
        break;
      case 5:
        bytes = joinBytes(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 6:
        bytes = joinBytes(bytes.subarray(0, at + length), bytes.subarray(at));
        break;
      case 7:
        bytes = joinBytes(
          bytes.subarray(0, at),
          Uint8Array.from({ length }, () => random.integer(0, 255)),
          bytes.subarray(at),
        );
        break;
      default:
        bytes = bytes.slice(0, at + 9);
    }
  }
  return bytes;
}

type Container = Record<string, unknown> | unknown[];

const isContainer = (value: unknown): value is Container => typeof value === 'object' && value !== null;

/** A container somewhere inside a value, and a key of it; the longer ones are met no more often than the others. */
function place(root: unknown, random: Random): { owner: Container; key: string } | undefined {
  let owner: Container | undefined;
  let key = '';
  let value = root;
  while (isContainer(value)) {
    const keys = Object.keys(value);
    if (keys.length === 0) break;
    owner = value;
    key = pick(random, keys);
    value = Reflect.get(value, key);
    if (random.integer(0, 3) === 0) break;
  }
  return owner === undefined ? undefined : { owner, key };
}

/** One to three changes of a JSON value: fields gone, renamed, exchanged, of another type, or numbers near the old ones. */
export function mutateValue(original: unknown, random: Random): unknown {
  const root: unknown = structuredClone(original);
  for (let change = random.integer(1, 3); change > 0; change--) {
    const found = place(root, random);
    if (found === undefined) return structuredClone(pick(random, VALUES));
    const { owner, key } = found;
    const value: unknown = Reflect.get(owner, key);
    const put = (name: string, next: unknown): void => {
      Object.defineProperty(owner, name, { value: next, enumerable: true, writable: true, configurable: true });
    };
    switch (random.integer(0, 6)) {
      case 0:
        if (Array.isArray(owner)) owner.splice(Number(key), 1);
        else Reflect.deleteProperty(owner, key);
        break;
      case 1:
        if (Array.isArray(owner)) owner.push(value);
        else put(pick(random, KEYS), value);
        break;
      case 2: {
        const other = place(root, random);
        put(key, other === undefined ? null : structuredClone(Reflect.get(other.owner, other.key)));
        break;
      }
      case 3:
        put(key, [value]);
        break;
      case 4:
      case 5:
        put(key, typeof value === 'number' ? near(value, random) : structuredClone(pick(random, VALUES)));
        break;
      default:
        put(key, structuredClone(pick(random, VALUES)));
    }
  }
  return root;
}

function near(value: number, random: Random): number {
  return pick(random, [
    value + 1,
    value - 1,
    value * 2,
    -value,
    value / 2,
    value * 2 ** 20,
    value * 2 ** 33,
    value + 0.5,
  ]);
}

/** JSON of a changed value, at times with text that no writer makes: cut, deeply nested, with keys twice or Python's words. */
export function mutateJson(original: unknown, random: Random): string {
  const text = JSON.stringify(mutateValue(original, random)) ?? '';
  const at = random.integer(0, text.length);
  const insert = (added: string): string => text.slice(0, at) + added + text.slice(at);
  switch (random.integer(0, 15)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return insert(pick(random, ['NaN', '-Infinity', '1e999', '-', '"', '\\', ',', '{', ']', '\0', '\uFEFF']));
    case 2:
      return text.replace(':', `:${'['.repeat(20_000)}`);
    case 3:
      return text.replace(/:\d+/, () => `:${'9'.repeat(random.integer(1, 400))}`);
    case 4:
      return text.replace('{', `{"a":1,"a":2,`);
    case 5:
      return new TextDecoder().decode(mutateBytes(new TextEncoder().encode(text), random));
    default:
      return text;
  }
}
