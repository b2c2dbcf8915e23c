// Longer than most files: every opcode of four protocols, in one place.
import { WeightFormatError } from '@mambalab/kernels';
import { describePickle, PickleGlobal, PickleObject, PickleReference } from './pickle_values.ts';
import type { PickleDict, PickleValue } from './pickle_values.ts';

export interface PickleOptions {
  /** The file's name, for messages. */
  readonly file: string;
  /** Whether a global such as `torch.float32` may stand in the file. A pickle that names another is refused. */
  readonly allows: (global: string) => boolean;
}

/** Far above what a checkpoint needs: bounds what a hostile file can make this reader do and keep. */
const MAX_BYTES = 64 * 2 ** 20;
const MAX_OPERATIONS = 2 ** 22;
const MAX_STACK = 2 ** 20;
const MAX_DEPTH = 128;
/** Longer integers are no sizes. */
const MAX_INTEGER_BYTES = 256;

/**
 * Reads a pickle of protocol 2 to 5 as data. Nothing of it is executed: where Python would call something, a
 * {@link PickleObject} says what, and only if the global is one that `allows` names.
 *
 * Source: the opcodes of CPython's `pickletools`.
 *
 * @throws WeightFormatError if the pickle is damaged or too large, or names a global that is not allowed.
 */
export function readPickle(bytes: Uint8Array, options: PickleOptions): PickleValue {
  return new PickleReader(bytes, options).read();
}

class PickleReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: PickleOptions;
  readonly #stack: PickleValue[] = [];
  /** Lengths of the stack when a MARK was set. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #depths = new WeakMap<object, number>();
  #at = 0;

  constructor(bytes: Uint8Array, options: PickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
  }

  read(): PickleValue {
    if (this.#bytes.byteLength > MAX_BYTES) this.#fail(`it is longer than ${MAX_BYTES} bytes`);
    if (this.#uint(1) !== 0x80) this.#fail('it does not begin with a protocol number');
    const protocol = this.#uint(1);
    if (protocol < 2 || protocol > 5) this.#fail(`its protocol is ${protocol}, expected 2 to 5`);
    for (let count = 0; ; count++) {
      if (count > MAX_OPERATIONS) this.#fail(`it has more than ${MAX_OPERATIONS} operations`);
      const opcode = this.#uint(1);
      if (opcode === 0x2e /* STOP */) break;
      this.#execute(opcode);
      if (this.#stack.length > MAX_STACK) this.#fail(`more than ${MAX_STACK} values wait for their place`);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) this.#fail('values are left over at its end');
    if (this.#at !== this.#bytes.byteLength) this.#fail('bytes follow its end');
    return value;
  }

  #execute(opcode: number): void {
    const stack = this.#stack;
    switch (opcode) {
      // Numbers and constants.
      case 0x4e /* NONE */:
        return void stack.push(null);
      case 0x88 /* NEWTRUE */:
      case 0x89 /* NEWFALSE */:
        return void stack.push(opcode === 0x88);
      case 0x4b /* BININT1 */:
        return void stack.push(this.#uint(1));
      case 0x4d /* BININT2 */:
        return void stack.push(this.#uint(2));
      case 0x4a /* BININT */:
        return void stack.push(this.#uint(4) | 0);
      case 0x8a /* LONG1 */:
        return void stack.push(this.#integer(this.#uint(1)));
      case 0x8b /* LONG4 */:
        return void stack.push(this.#integer(this.#uint(4)));
      case 0x47 /* BINFLOAT */:
        this.#need(8);
        this.#at += 8;
        return void stack.push(this.#view.getFloat64(this.#at - 8, false));

      // Texts and bytes.
      case 0x8c /* SHORT_BINUNICODE */:
        return void stack.push(this.#text(this.#uint(1)));
      case 0x58 /* BINUNICODE */:
        return void stack.push(this.#text(this.#uint(4)));
      case 0x8d /* BINUNICODE8 */:
        return void stack.push(this.#text(this.#length8()));
      case 0x43 /* SHORT_BINBYTES */:
      case 0x55 /* SHORT_BINSTRING, a text of Python 2 */:
        return void stack.push(this.#slice(this.#uint(1)));
      case 0x42 /* BINBYTES */:
      case 0x54 /* BINSTRING */:
        return void stack.push(this.#slice(this.#uint(4)));
      case 0x8e /* BINBYTES8 */:
      case 0x96 /* BYTEARRAY8 */:
        return void stack.push(this.#slice(this.#length8()));

      // Containers.
      case 0x28 /* MARK */:
        if (this.#marks.length >= MAX_DEPTH) this.#fail(`it nests deeper than ${MAX_DEPTH} levels`);
        return void this.#marks.push(stack.length);
      case 0x29 /* EMPTY_TUPLE */:
        return void stack.push(Object.freeze([]));
      case 0x85 /* TUPLE1 */:
      case 0x86 /* TUPLE2 */:
      case 0x87 /* TUPLE3 */:
        return void stack.push(this.#tuple(this.#popMany(opcode - 0x84)));
      case 0x74 /* TUPLE */:
      case 0x91 /* FROZENSET */:
        return void stack.push(this.#tuple(this.#popToMark()));
      case 0x5d /* EMPTY_LIST */:
      case 0x8f /* EMPTY_SET */:
        return void stack.push([]);
      case 0x6c /* LIST */:
        return void this.#append([], this.#popToMark());
      case 0x61 /* APPEND */:
        return void this.#append(undefined, [this.#pop()]);
      case 0x65 /* APPENDS */:
      case 0x90 /* ADDITEMS */:
        return void this.#append(undefined, this.#popToMark());
      case 0x7d /* EMPTY_DICT */:
        return void stack.push(new Map());
      case 0x64 /* DICT */: {
        const items = this.#popToMark();
        stack.push(new Map());
        return this.#setItems(items);
      }
      case 0x73 /* SETITEM */:
        return this.#setItems(this.#popMany(2));
      case 0x75 /* SETITEMS */:
        return this.#setItems(this.#popToMark());

      // The stack and the memo.
      case 0x30 /* POP */:
        return void this.#pop();
      case 0x31 /* POP_MARK */:
        return void this.#popToMark();
      case 0x32 /* DUP */:
        return void stack.push(this.#top());
      case 0x71 /* BINPUT */:
        return void this.#memo.set(this.#uint(1), this.#top());
      case 0x72 /* LONG_BINPUT */:
        return void this.#memo.set(this.#uint(4), this.#top());
      case 0x94 /* MEMOIZE */:
        return void this.#memo.set(this.#memo.size, this.#top());
      case 0x68 /* BINGET */:
        return void stack.push(this.#recall(this.#uint(1)));
      case 0x6a /* LONG_BINGET */:
        return void stack.push(this.#recall(this.#uint(4)));
      case 0x95 /* FRAME: tells how much to read ahead, and all is in memory already */:
        return this.#need(this.#length8());

      // What Python would look up or call.
      case 0x63 /* GLOBAL */:
        return void stack.push(this.#global(`${this.#line()}.${this.#line()}`));
      case 0x93 /* STACK_GLOBAL */: {
        const [module, name] = this.#popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string') this.#fail('a global is named by no text');
        return void stack.push(this.#global(`${module}.${name}`));
      }
      case 0x52 /* REDUCE */:
      case 0x81 /* NEWOBJ */: {
        const [callee, args] = this.#popMany(2);
        return void stack.push(this.#object(callee, args));
      }
      case 0x92 /* NEWOBJ_EX */: {
        const [callee, args, named] = this.#popMany(3);
        if (!(named instanceof Map) || named.size > 0) this.#fail(`${describePickle(callee)} is called by names`);
        return void stack.push(this.#object(callee, args));
      }
      case 0x6f /* OBJ */: {
        const [callee, ...args] = this.#popToMark();
        return void stack.push(this.#object(callee, args));
      }
      case 0x69 /* INST */: {
        const callee = this.#global(`${this.#line()}.${this.#line()}`);
        return void stack.push(this.#object(callee, this.#popToMark()));
      }
      case 0x62 /* BUILD */: {
        const state = this.#pop();
        const target = this.#top();
        if (!(target instanceof PickleObject)) return this.#fail(`the state of ${describePickle(target)} is set`);
        if (target.state !== undefined) this.#fail(`the state of ${describePickle(target)} is set twice`);
        target.state = state;
        return this.#nest(target, [state]);
      }
      case 0x51 /* BINPERSID */: {
        const id = this.#pop();
        const reference = new PickleReference(id);
        this.#nest(reference, [id]);
        return void stack.push(reference);
      }
      case 0x82 /* EXT1 */:
      case 0x83 /* EXT2 */:
      case 0x84 /* EXT4 */:
        return this.#fail('it names a global by a number, which only the program that wrote it can look up');
      case 0x97 /* NEXT_BUFFER */:
      case 0x98 /* READONLY_BUFFER */:
        return this.#fail('it refers to buffers that are not in the file');
      default:
        return this.#fail(`byte 0x${opcode.toString(16)} is no operation of protocol 2 to 5`);
    }
  }

  #global(name: string): PickleGlobal {
    if (this.#options.allows(name)) return new PickleGlobal(name);
    throw new WeightFormatError(
      `${this.#options.file} names '${name.slice(0, 200)}' (byte ${this.#at} of its pickle), which is neither plain data nor a tensor.`,
      'Nothing was executed. Do not open such a file with Python unless you trust who made it; ask for safetensors.',
    );
  }

  #object(callee: PickleValue | undefined, args: PickleValue | undefined): PickleObject {
    if (!(callee instanceof PickleGlobal)) return this.#fail(`${describePickle(callee)} is called`);
    if (!isArray(args)) return this.#fail(`${callee.name} is called with ${describePickle(args)}`);
    const object = new PickleObject(callee.name, args);
    this.#nest(object, [args]);
    return object;
  }

  #tuple(items: PickleValue[]): PickleValue {
    this.#nest(items, items);
    return Object.freeze(items);
  }

  /** Adds items to a new list, which goes on the stack, or to the one that is there. */
  #append(made: PickleValue[] | undefined, items: readonly PickleValue[]): void {
    if (made !== undefined) this.#stack.push(made);
    const list = this.#top();
    if (!isArray(list) || Object.isFrozen(list)) return this.#fail(`something is appended to ${describePickle(list)}`);
    for (const item of items) list.push(item);
    this.#nest(list, items);
  }

  #setItems(items: readonly PickleValue[]): void {
    const target = this.#top();
    const dict: PickleDict | undefined =
      target instanceof Map ? target : target instanceof PickleObject ? target.entries : undefined;
    if (dict === undefined) return this.#fail(`items are set on ${describePickle(target)}`);
    if (items.length % 2 !== 0) this.#fail('a key of a dictionary has no value');
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index] ?? null;
      // Python would keep the last one, which lets two readers see two different files.
      if (dict.has(key)) this.#fail(`the key ${describePickle(key)} stands twice in a dictionary`);
      dict.set(key, items[index + 1] ?? null);
    }
    this.#nest(target, items);
  }

  /** Counts levels, so that whoever walks the value cannot run out of stack. */
  #nest(container: PickleValue, items: readonly PickleValue[]): void {
    if (typeof container !== 'object' || container === null) return;
    let depth = this.#depths.get(container) ?? 1;
    for (const item of items) {
      if (typeof item === 'object' && item !== null) depth = Math.max(depth, (this.#depths.get(item) ?? 0) + 1);
    }
    if (depth > MAX_DEPTH) this.#fail(`it nests deeper than ${MAX_DEPTH} levels`);
    this.#depths.set(container, depth);
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined || this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('a value is missing');
    return value ?? null;
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) this.#fail('a value is missing');
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) return this.#fail('the beginning of a container is missing');
    return this.#stack.splice(mark);
  }

  #recall(key: number): PickleValue {
    const value = this.#memo.get(key);
    if (value === undefined) return this.#fail(`it refers to value ${key}, which it has not kept`);
    return value;
  }

  #uint(size: 1 | 2 | 4): number {
    this.#need(size);
    const at = this.#at;
    this.#at += size;
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  #length8(): number {
    this.#need(8);
    this.#at += 8;
    return Number(this.#view.getBigUint64(this.#at - 8, true));
  }

  #slice(length: number): Uint8Array {
    this.#need(length);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #text(length: number): string {
    return this.#decode(this.#slice(length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#fail('the name of a global does not end');
    const text = this.#text(end - this.#at);
    this.#at = end + 1;
    return text;
  }

  #decode(bytes: Uint8Array): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.#fail('a text is not UTF-8');
    }
  }

  /** Little-endian two's complement. */
  #integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES) this.#fail(`an integer has ${length} bytes`);
    const bytes = this.#slice(length);
    let value = 0n;
    for (const byte of bytes.toReversed()) value = (value << 8n) | BigInt(byte);
    value = BigInt.asIntN(length * 8, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  #need(length: number): void {
    const left = this.#bytes.byteLength - this.#at;
    if (length > left) this.#fail(`${length} bytes should follow, but only ${left} do`);
  }

  #fail(problem: string): never {
    throw new WeightFormatError(
      `The pickle in ${this.#options.file} cannot be read (at byte ${this.#at}): ${problem}.`,
      'The file is damaged or no checkpoint: download or export it again, as safetensors where possible.',
    );
  }
}

const isArray = (value: PickleValue | undefined): value is PickleValue[] => Array.isArray(value);
