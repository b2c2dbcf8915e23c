import { invalidRequest } from './api_error.ts';

type Fields = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads the fields of a request. What is `null` counts as absent; what is wrong names its field. */
export class RequestReader {
  readonly #fields: Fields;
  readonly #path: string;
  readonly #read = new Set<string>();

  /** @throws APIError (400) for what is no object */
  constructor(value: unknown, path = '') {
    if (!isObject(value)) {
      throw invalidRequest(path || undefined, `${path === '' ? 'The request' : `'${path}'`} must be a JSON object.`);
    }
    this.#fields = value;
    this.#path = path;
  }

  /** The value of a field as it is. */
  value(name: string): unknown {
    this.#read.add(name);
    return Object.hasOwn(this.#fields, name) ? (this.#fields[name] ?? undefined) : undefined;
  }

  /** Whether a field is given. */
  has(name: string): boolean {
    return this.value(name) !== undefined;
  }

  nameOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`;
  }

  refuse(name: string, message: string, code?: string): never {
    throw invalidRequest(this.nameOf(name), `'${this.nameOf(name)}' ${message}.`, code);
  }

  string(name: string): string | undefined {
    const value = this.value(name);
    if (value === undefined || typeof value === 'string') return value;
    return this.refuse(name, 'must be a string', 'invalid_type');
  }

  boolean(name: string): boolean | undefined {
    const value = this.value(name);
    if (value === undefined || typeof value === 'boolean') return value;
    return this.refuse(name, 'must be true or false', 'invalid_type');
  }

  number(name: string, least: number, most: number): number | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value))
      return this.refuse(name, 'must be a number', 'invalid_type');
    if (value >= least && value <= most) return value;
    return this.refuse(name, `is ${value}; it must be ${rangeText(least, most)}`, 'invalid_value');
  }

  integer(name: string, least: number, most: number = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.number(name, least, most);
    if (value === undefined || Number.isInteger(value)) return value;
    return this.refuse(name, 'must be a whole number', 'invalid_type');
  }

  /** A text or several. */
  strings(name: string, most: number): readonly string[] | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value === 'string') return [value];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      return this.refuse(name, 'must be a string or an array of strings', 'invalid_type');
    }
    return value.length <= most ? value : this.refuse(name, `has more than ${most} texts`, 'array_above_max_length');
  }

  /** One of several words. */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value);
    return (
      found ?? this.refuse(name, `must be ${choices.map((choice) => `'${choice}'`).join(' or ')}`, 'invalid_value')
    );
  }

  array(name: string): readonly unknown[] | undefined {
    const value = this.value(name);
    if (value === undefined || Array.isArray(value)) return value;
    return this.refuse(name, 'must be an array', 'invalid_type');
  }

  object(name: string): RequestReader | undefined {
    const value = this.value(name);
    return value === undefined ? undefined : new RequestReader(value, this.nameOf(name));
  }

  /** The objects of an array. */
  objects(name: string): readonly RequestReader[] | undefined {
    return this.array(name)?.map((item, index) => new RequestReader(item, `${this.nameOf(name)}[${index}]`));
  }

  /** Fields that change nothing here: who asks, and how a service bills and keeps it. */
  ignore(...names: readonly string[]): void {
    for (const name of names) this.#read.add(name);
  }

  /** @throws APIError (400) for a field that nobody read: doing without it could be something else than was asked for */
  refuseOthers(): void {
    const other = Object.keys(this.#fields).find((name) => !this.#read.has(name) && this.#fields[name] !== null);
    if (other !== undefined) this.refuse(other, 'is not supported here', 'unsupported_parameter');
  }
}

function rangeText(least: number, most: number): string {
  if (most >= Number.MAX_SAFE_INTEGER) return `at least ${least}`;
  return `from ${least} to ${most}`;
}
