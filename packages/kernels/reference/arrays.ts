/** Any array of numbers that a reference accepts: plain, typed, or the view of a tensor that was read back. */
export type Numbers = ArrayLike<number>;

/**
 * float64 elements whose every access is checked: an index outside them throws, so that wrong index arithmetic never
 * reads as 0. Methods, not functions, because a loop calls them faster than the imports of a module that is not bundled.
 */
export class Reals {
  readonly values: Float64Array;

  constructor(values: Float64Array) {
    this.values = values;
  }

  at(index: number): number {
    const value = this.values[index];
    if (value === undefined) throw new RangeError(`index ${index} is outside ${this.values.length} elements`);
    return value;
  }

  set(index: number, value: number): void {
    this.at(index); // throws outside
    this.values[index] = value;
  }

  add(index: number, value: number): void {
    this.values[index] = this.at(index) + value;
  }
}

/** `length` elements that are 0. */
export function zeros(length: number): Reals {
  return new Reals(new Float64Array(length));
}

/** A float64 copy of `array`, after checking that it holds exactly the elements of `shape`. */
export function float64(name: string, array: Numbers, ...shape: readonly number[]): Reals {
  const elements = shape.reduce((product, size) => product * size, 1);
  if (array.length !== elements) {
    throw new RangeError(`${name}: expected ${elements} elements [${shape.join(', ')}], found ${array.length}`);
  }
  return new Reals(Float64Array.from(array));
}

/** `float64` of an input that may be left out. */
export function optionalFloat64(
  name: string,
  array: Numbers | undefined,
  ...shape: readonly number[]
): Reals | undefined {
  return array === undefined ? undefined : float64(name, array, ...shape);
}

/** Throws unless `parts` divides `whole`: heads over groups, a width over normalization groups. */
export function expectDivisible(wholeName: string, whole: number, partsName: string, parts: number): void {
  if (whole % parts !== 0) {
    throw new RangeError(`${wholeName} (${whole}) must be a multiple of ${partsName} (${parts})`);
  }
}
