import type { ByteFile, Folder } from '../../../packages/models/src/weights/source.ts';
import { isPlainFileName } from '../../../packages/models/src/weights/folder.ts';

/** A file that takes a read outside of it for a failure of the reader. */
export function guardedFile(name: string, bytes: Uint8Array): ByteFile {
  return {
    name,
    size: () => Promise.resolve(bytes.byteLength),
    read: (start, end) => {
      const isInside = Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end;
      if (!isInside || end > bytes.byteLength) {
        throw new RangeError(`bytes ${start} to ${end} of the ${bytes.byteLength} of ${name} were asked for`);
      }
      return Promise.resolve(bytes.slice(start, end));
    },
  };
}

/** A folder that takes a name that leads out of it, if it is made of what stood in a file, for a failure of the reader. */
export function guardedFolder(files: Readonly<Record<string, string | Uint8Array>>): Folder {
  const encoder = new TextEncoder();
  const bytesOf = (name: string): Uint8Array | undefined => {
    if (!isPlainFileName(name)) throw new RangeError(`the file ${JSON.stringify(name)} was asked for`);
    const content = Object.hasOwn(files, name) ? files[name] : undefined;
    return typeof content === 'string' ? encoder.encode(content) : content;
  };
  return {
    label: 'the test folder',
    list: () => Promise.resolve(Object.keys(files)),
    file: (name) => {
      const bytes = bytesOf(name);
      return Promise.resolve(bytes && guardedFile(name, bytes));
    },
    readText: (name) => {
      const bytes = bytesOf(name);
      return Promise.resolve(bytes && new TextDecoder().decode(bytes));
    },
    dispose: () => Promise.resolve(),
  };
}

/** Values that a file of some bytes may ask for in one array: those of 4-bit blocks become 8 times as long in float32. */
const GROWTH = 16;
/** Beyond that, what readers take whatever the file says. */
const SPARE = 2 ** 20;

const WATCHED = ['Uint8Array', 'Uint16Array', 'Uint32Array', 'Int32Array', 'Float32Array', 'Float64Array'] as const;

/**
 * Runs something while no array may be made that is much larger than the file of `size` bytes. Typed arrays, their
 * buffers, and arrays of a length that is given are counted before they are made.
 *
 * @returns the bytes of the largest one
 */
export async function withBoundedArrays(size: number, run: () => Promise<void>): Promise<number> {
  const limit = size * GROWTH + SPARE;
  let largest = 0;
  const check = (bytes: number): void => {
    if (bytes > limit) throw new RangeError(`an array of ${bytes} bytes was asked for; the file has ${size}`);
    largest = Math.max(largest, bytes);
  };
  const restore: (() => void)[] = [];
  const exchange = (name: string, width: number): void => {
    const own: unknown = Reflect.get(globalThis, name);
    if (typeof own !== 'function') throw new RangeError(`There is no ${name}.`);
    const construct = (target: () => void, args: unknown[], newTarget: () => void): object => {
      const [first] = args;
      if (typeof first === 'number') check(first * width);
      return Reflect.construct(target, args, newTarget === watched ? target : newTarget);
    };
    const watched: () => void = new Proxy(own as () => void, { construct });
    Reflect.set(globalThis, name, watched);
    restore.push(() => Reflect.set(globalThis, name, own));
  };
  for (const name of WATCHED) exchange(name, Number(Reflect.get(globalThis[name], 'BYTES_PER_ELEMENT')));
  exchange('ArrayBuffer', 1);
  exchange('Array', 8);
  const { from } = Array;
  Array.from = ((items: { length?: number }, ...others: []): unknown => {
    if (typeof items.length === 'number') check(items.length * 8);
    return Reflect.apply(from, Array, [items, ...others]);
  }) as typeof Array.from;
  restore.push(() => (Array.from = from));
  try {
    await run();
  } finally {
    for (const undo of restore) undo();
  }
  return largest;
}
