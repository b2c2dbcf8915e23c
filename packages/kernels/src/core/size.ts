import { ArgumentError } from './errors.ts';

/**
 * Sizes that are known when a recording is made (numbers) or only when it is run (expressions over named sizes).
 *
 * A prefill recording is made once for prompts of up to `maximum` tokens and run for any length below it: every
 * parameter, view and grid that depends on the length is an expression that the executor evaluates for each run.
 */
export type Size = number | SizeExpression;

/** Values of the named sizes of one run, by name. */
export type SizeValues = Readonly<Record<string, number>>;

/** A size that depends on named sizes. `key` is canonical: equal keys mean equal values. */
export interface SizeExpression {
  readonly key: string;
  /** Largest value, reached when every named size is at its maximum (all operations below are monotone). */
  readonly maximum: number;
  /** Every value is a multiple of this; 1 when absent. Kernels find from it whether a view is aligned. */
  readonly divisor?: number;
  evaluate(values: SizeValues): number;
}

/** A named size with its largest value. Its value is given to each run under `name`. */
export function namedSize(name: string, maximum: number): SizeExpression {
  return {
    key: name,
    maximum,
    evaluate(values: SizeValues): number {
      const value = values[name];
      if (value === undefined || !Number.isInteger(value) || value < 1 || value > maximum) {
        throw new ArgumentError(
          `The size '${name}' must be an integer from 1 to ${maximum}; the run gives ${String(value)}.`,
          'Give every named size of the recording to the run, within its maximum.',
        );
      }
      return value;
    },
  };
}

/** The value of a size in one run. */
export function evaluateSize(size: Size, values: SizeValues): number {
  return typeof size === 'number' ? size : size.evaluate(values);
}

/** The largest value that a size can have. */
export function maximumSize(size: Size): number {
  return typeof size === 'number' ? size : size.maximum;
}

/** Canonical text of a size: two sizes with the same text are equal in every run. */
export function sizeKey(size: Size): string {
  return typeof size === 'number' ? String(size) : size.key;
}

/** Whether two sizes are equal in every run. */
export function sameSize(a: Size, b: Size): boolean {
  return sizeKey(a) === sizeKey(b);
}

function combine(a: Size, b: Size, operator: string, apply: (x: number, y: number) => number): Size {
  if (typeof a === 'number' && typeof b === 'number') return apply(a, b);
  return {
    key: `(${sizeKey(a)}${operator}${sizeKey(b)})`,
    maximum: apply(maximumSize(a), maximumSize(b)),
    divisor: combinedDivisor(divisorOf(a), divisorOf(b), operator),
    evaluate: (values) => apply(evaluateSize(a, values), evaluateSize(b, values)),
  };
}

/** Largest number that every value of a size is known to be a multiple of; 0 for the number 0. */
function divisorOf(size: Size): number {
  return typeof size === 'number' ? size : (size.divisor ?? 1);
}

function combinedDivisor(a: number, b: number, operator: string): number {
  if (operator === '*') return a * b;
  return operator === '/' ? 1 : greatestCommonDivisor(a, b);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** Whether every value of a size is known to be a multiple of `divisor`. */
export function isMultiple(size: Size, divisor: number): boolean {
  return divisorOf(size) % divisor === 0;
}

/** The choice `scalar` on the axis `load` of a shader unless all these offsets, strides and sizes are multiples of 4. */
export function loadChoice(...values: readonly Size[]): { load?: 'scalar' } {
  return values.every((value) => isMultiple(value, 4)) ? {} : { load: 'scalar' };
}

/** a + b */
export function addSize(a: Size, b: Size): Size {
  if (a === 0) return b;
  if (b === 0) return a;
  return combine(a, b, '+', (x, y) => x + y);
}

/** a * b, for b >= 0 */
export function multiplySize(a: Size, b: Size): Size {
  if (a === 1) return b;
  if (b === 1) return a;
  if (a === 0 || b === 0) return 0;
  return combine(a, b, '*', (x, y) => x * y);
}

/** a - b for a constant b */
export function subtractSize(a: Size, b: number): Size {
  return b === 0 ? a : combine(a, b, '-', (x, y) => x - y);
}

/** ceil(a / b) for a constant b > 0 */
export function ceilDivSize(a: Size, b: number): Size {
  return b === 1 ? a : combine(a, b, '/', (x, y) => Math.ceil(x / y));
}

/** min(a, b) for a constant b */
export function minimumSize(a: Size, b: number): Size {
  return combine(a, b, 'min', Math.min);
}

/** Product of a shape, or of a part of one. */
export function productSize(sizes: readonly Size[]): Size {
  return sizes.reduce<Size>((product, size) => multiplySize(product, size), 1);
}

/** WebGPU's default and, in practice, universal limit of workgroups in one dimension. */
export const MAX_WORKGROUPS_PER_DIMENSION = 65_535;

/**
 * A two-dimensional grid of at least `count` workgroups. Kernels that may exceed one dimension flatten it as
 * `workgroup_id.y * num_workgroups.x + workgroup_id.x` and return where that is not below their count.
 */
export function flatGrid(count: Size): readonly [Size, Size] {
  if (maximumSize(count) <= MAX_WORKGROUPS_PER_DIMENSION) return [count, 1];
  return [minimumSize(count, MAX_WORKGROUPS_PER_DIMENSION), ceilDivSize(count, MAX_WORKGROUPS_PER_DIMENSION)];
}

/** `[4, length, 64]` as text for messages. */
export function formatShape(shape: readonly Size[]): string {
  return `(${shape.map(sizeKey).join(', ')})`;
}
