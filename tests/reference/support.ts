import { readdirSync, readFileSync } from 'node:fs';

/** One case of a file that `scripts/make-reference-fixtures.py` wrote. */
export interface Case<Options> {
  readonly name: string;
  readonly run: string;
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  readonly options: Options;
  readonly expected: readonly number[] | Readonly<Record<string, readonly number[]>>;
}

/** The stems of all files of cases. */
export function stems(): readonly string[] {
  return readdirSync(new URL('../fixtures/reference/', import.meta.url)).map((name) => name.replace(/\.json$/, ''));
}

/** The cases of tests/fixtures/reference/`stem`.json. */
export function readCases<Options = Readonly<Record<string, unknown>>>(stem: string): readonly Case<Options>[] {
  const url = new URL(`../fixtures/reference/${stem}.json`, import.meta.url);
  return (JSON.parse(readFileSync(url, 'utf8')) as { cases: Case<Options>[] }).cases;
}

/** One array under the name "result", or the arrays of an object such as { y, state } under theirs. */
function named(value: object): Record<string, ArrayLike<number>> {
  const entries = Array.isArray(value) || ArrayBuffer.isView(value) ? { result: value } : value;
  return entries as Record<string, ArrayLike<number>>;
}

/**
 * The first element that is further than `tolerance` from the expected one (relative above 1, absolute below), in words;
 * undefined when there is none. Takes an array each, or an object of arrays each. NaN never agrees.
 */
export function difference(actual: object, expected: object, tolerance = 1e-12): string | undefined {
  const [found, wanted] = [named(actual), named(expected)];
  for (const name of new Set([...Object.keys(found), ...Object.keys(wanted)])) {
    const [a, b] = [found[name] ?? [], wanted[name] ?? []];
    if (a.length !== b.length) return `${name}: expected ${b.length} elements, found ${a.length}`;
    for (let i = 0; i < b.length; i++) {
      const [x, y] = [a[i] ?? NaN, b[i] ?? NaN];
      if (!(Math.abs(x - y) <= tolerance * Math.max(1, Math.abs(y)))) return `${name}[${i}]: expected ${y}, found ${x}`;
    }
  }
  return undefined;
}

/** A seeded source of `Float64Array`s, uniform in [low, high). */
export function uniform(seed: number): (length: number, low?: number, high?: number) => Float64Array {
  let state = seed >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // linear congruential, the constants of Numerical Recipes
    return state / 2 ** 32;
  };
  return (length, low = -1, high = 1) => Float64Array.from({ length }, () => low + (high - low) * next());
}

/** Tokens start .. end - 1 of `array` (B, L, width), as (B, end - start, width). */
export function sliceTokens(
  array: Float64Array,
  batch: number,
  length: number,
  start: number,
  end: number,
): Float64Array {
  const width = array.length / (batch * length);
  const parts = Array.from({ length: batch }, (_, b) => [
    ...array.subarray((b * length + start) * width, (b * length + end) * width),
  ]);
  return Float64Array.from(parts.flat());
}

/** The inverse of `sliceTokens`: pieces (B, Li, width) of the given lengths as one array (B, L, width). */
export function joinTokens(pieces: readonly Float64Array[], batch: number): Float64Array {
  const rows = Array.from({ length: batch }, (_, b) =>
    pieces.flatMap((piece) => [...piece.subarray((b * piece.length) / batch, ((b + 1) * piece.length) / batch)]),
  );
  return Float64Array.from(rows.flat());
}
