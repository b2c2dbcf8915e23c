/** What a pickle holds, as data. Lists, tuples and sets are arrays (tuples are frozen), dictionaries are maps. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickleValue[]
  | PickleDict
  | PickleGlobal
  | PickleObject
  | PickleReference;

/** A dictionary. Keys come from the file, so it never becomes an object. */
export type PickleDict = Map<PickleValue, PickleValue>;

/** A class or function of Python by its name. Nothing is ever looked up or called. */
export class PickleGlobal {
  /** Module and name: `torch.float32`. */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** What Python would make by calling a global: the call, written down. */
export class PickleObject {
  /** Name of the global that Python would call. */
  readonly global: string;
  readonly args: readonly PickleValue[];
  /** Items that were set on it, where it is a dictionary such as `collections.OrderedDict`. */
  readonly entries: PickleDict = new Map();
  /** What Python would hand to its `__setstate__`, or put among its attributes. */
  state: PickleValue | undefined;

  constructor(global: string, args: readonly PickleValue[]) {
    this.global = global;
    this.args = args;
  }
}

/** Something that lies outside of the pickle, such as the values of a tensor. */
export class PickleReference {
  readonly id: PickleValue;

  constructor(id: PickleValue) {
    this.id = id;
  }
}

/** The entries of a `dict` or of an object that acts like one (`OrderedDict`); undefined for everything else. */
export function entriesOf(value: PickleValue | undefined): PickleDict | undefined {
  if (value instanceof Map) return value;
  const ordered = value instanceof PickleObject && value.global === 'collections.OrderedDict';
  return ordered && value.args.length === 0 ? value.entries : undefined;
}

/** A few words for messages, however large the value is. */
export function describePickle(value: PickleValue | undefined): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (value === null) return 'None';
  if (value === undefined) return 'nothing';
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  if (value instanceof Map) return `a dictionary of ${value.size}`;
  if (value instanceof PickleGlobal) return value.name;
  if (value instanceof PickleObject) return `an object made by ${value.global}`;
  if (value instanceof PickleReference) return 'a reference';
  return typeof value === 'object' ? `a list of ${value.length}` : String(value).slice(0, 40);
}
