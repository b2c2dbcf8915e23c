import { UnsupportedModelError } from '@mambalab/kernels';

/** Sizes beyond are no model's, and their products would be no numbers that JavaScript holds exactly. */
const LARGEST = 2 ** 31 - 1;
/** What lists are made for has closer bounds. */
const COUNTS: readonly (readonly [RegExp, number])[] = [
  [/layer/, 2 ** 12],
  [/heads?$|groups|experts$/, 2 ** 16],
];

/** Reads fields of a configuration with their types; every error names the field, what it holds and what to do. */
export class ConfigReader {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #file: string;
  /** What leads to these fields inside the file, such as `rope_scaling.`. */
  readonly #path: string;

  /** @throws UnsupportedModelError if the configuration is not a JSON object */
  constructor(config: unknown, file: string = 'config.json', path: string = '') {
    if (!isObject(config)) {
      throw new UnsupportedModelError(`${file} is not a JSON object.`, 'Give the configuration of the model.');
    }
    this.#fields = config;
    this.#file = file;
    this.#path = path;
  }

  /**
   * The same configuration where absent fields have these values, as the family's own class gives them. A field that is
   * null stays so.
   */
  withDefaults(defaults: Readonly<Record<string, unknown>>): ConfigReader {
    return new ConfigReader({ ...defaults, ...this.#fields }, this.#file, this.#path);
  }

  /** The field as it stands; undefined where it is absent or null. */
  raw(name: string): unknown {
    const value = this.#fields[name];
    return value === null ? undefined : value;
  }

  /** Whether the field is there and null, where that says something else than its absence. */
  isNull(name: string): boolean {
    return this.#fields[name] === null;
  }

  /** A positive whole number: a size or a count. */
  size(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'number' || !Number.isInteger(value) || value <= 0) {
      throw this.#error(name, 'a positive whole number', value);
    }
    const [, most = LARGEST] = COUNTS.find(([pattern]) => pattern.test(name)) ?? [];
    if (value > most) throw this.#error(name, `at most ${most}`, value);
    return value;
  }

  optionalSize(name: string): number | undefined {
    return this.raw(name) === undefined ? undefined : this.size(name);
  }

  number(name: string, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'number' && !Number.isNaN(value)) return value;
    throw this.#error(name, 'a number', value);
  }

  /** A number above 0: what something is divided by, or a root is taken of. */
  positive(name: string, fallback?: number): number {
    const value = this.number(name, fallback);
    if (value > 0) return value;
    throw this.#error(name, 'a positive number', value);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.#error(name, 'true or false', value);
  }

  string(name: string, fallback?: string): string {
    const value = this.raw(name) ?? fallback;
    if (typeof value === 'string') return value;
    throw this.#error(name, 'a text', value);
  }

  /** A nested object; an empty one where it is absent. */
  object(name: string): ConfigReader {
    const value = this.raw(name) ?? {};
    if (!isObject(value)) throw this.#error(name, 'an object', value);
    return new ConfigReader(value, this.#file, `${this.#path}${name}.`);
  }

  strings(name: string): readonly string[] | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item): item is string => typeof item === 'string')) return value;
    throw this.#error(name, 'a list of texts', value);
  }

  numbers(name: string): readonly number[] | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item): item is number => typeof item === 'number')) return value;
    throw this.#error(name, 'a list of numbers', value);
  }

  /** Token ids that are written as one number or as a list. */
  tokens(name: string): readonly number[] {
    const value = this.raw(name);
    return typeof value === 'number' ? [value] : (this.numbers(name) ?? []);
  }

  /** Refuses a feature that this version does not compute, instead of computing something else. */
  refuse(name: string, allowed: readonly unknown[]): void {
    const value = this.raw(name);
    if (value === undefined || allowed.includes(value)) return;
    const expected = allowed.length === 0 ? 'absent' : allowed.map((item) => JSON.stringify(item)).join(' or ');
    throw this.#error(name, expected, value);
  }

  #error(name: string, expected: string, found: unknown): UnsupportedModelError {
    const text = found === undefined ? 'nothing' : JSON.stringify(found);
    return new UnsupportedModelError(
      `${this.#file}: '${this.#path}${name}' must be ${expected}; found ${text}.`,
      'Check that the configuration belongs to this model and that the model is one that this version runs.',
    );
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Words that configurations use for activation functions, with the names that kernels give them. */
const ACTIVATIONS: Readonly<Record<string, 'silu' | 'gelu' | 'geluTanh' | 'relu' | 'relu2'>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  gelu_fast: 'geluTanh',
  relu: 'relu',
  relu2: 'relu2',
};

/** The activation that a field names. @throws UnsupportedModelError for one that no kernel computes */
export function readActivation(
  config: ConfigReader,
  name: string,
  fallback: string,
): 'silu' | 'gelu' | 'geluTanh' | 'relu' | 'relu2' {
  const word = config.string(name, fallback);
  const activation = Object.hasOwn(ACTIVATIONS, word) ? ACTIVATIONS[word] : undefined;
  if (activation !== undefined) return activation;
  throw new UnsupportedModelError(
    `config.json: '${name}' is '${word}', an activation that no kernel computes.`,
    `Supported are: ${Object.keys(ACTIVATIONS).join(', ')}.`,
  );
}
