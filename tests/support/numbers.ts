import type { HostTensor } from '@mambalab/kernels';

/** Deterministic random numbers (xorshift32), the same on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1;
    for (let i = 0; i < 8; i++) this.next();
  }

  /** Uniform in [0, 1). */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state / 2 ** 32;
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }

  normals(count: number, scale = 1, shift = 0): Float32Array {
    return Float32Array.from({ length: count }, () => this.normal() * scale + shift);
  }

  uniforms(count: number, low = 0, high = 1): Float32Array {
    return Float32Array.from({ length: count }, () => low + (high - low) * this.next());
  }

  integers(count: number, below: number): Uint32Array {
    return Uint32Array.from({ length: count }, () => Math.floor(this.next() * below));
  }

  /** A whole number from low to high, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }
}

/** An f32 tensor of standard normal values times `scale`. */
export function normalTensor(random: Random, shape: readonly number[], scale = 1): HostTensor & { data: Float32Array } {
  const count = shape.reduce((product, size) => product * size, 1);
  return { data: random.normals(count, scale), shape, dtype: 'f32' };
}

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** Throws unless every value is within `atol + rtol * |expected|`. NaN and a missing value never pass. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, { rtol, atol }: Tolerance): void {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values; expected ${expected.length}`);
  let worst = -1;
  let worstExcess = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] ?? NaN;
    const e = expected[i] ?? NaN;
    const excess = Math.abs(a - e) / (atol + rtol * Math.abs(e));
    if (!(excess <= 1) && (worst < 0 || !(excess <= worstExcess))) {
      worst = i;
      worstExcess = excess;
      if (Number.isNaN(excess)) break;
    }
  }
  if (worst >= 0) {
    throw new Error(
      `value ${worst} of ${expected.length}: ${actual[worst]}, expected ${expected[worst]} (${worstExcess.toFixed(2)} times the tolerance)`,
    );
  }
}

/** Throws unless two arrays hold the same bits. */
export function expectSameBits(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values; expected ${expected.length}`);
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i]))
      throw new Error(`value ${i}: ${actual[i]}, expected exactly ${expected[i]}`);
  }
}

/** Normalised mean squared error: |a - e|^2 / |e|^2. */
export function nmse(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let power = 0;
  for (let i = 0; i < expected.length; i++) {
    const e = expected[i] ?? NaN;
    error += ((actual[i] ?? NaN) - e) ** 2;
    power += e ** 2;
  }
  return error / power;
}
