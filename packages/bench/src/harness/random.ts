/** Deterministic random numbers (xorshift32): a seed gives the same inputs on every machine. */
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
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state / 2 ** 32;
  }

  /** Normal values with this standard deviation and mean; Box and Muller's pairs. */
  normals(count: number, scale = 1, shift = 0): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = scale * Math.sqrt(-2 * Math.log(1 - this.next()));
      const angle = 2 * Math.PI * this.next();
      values[i] = radius * Math.cos(angle) + shift;
      if (i + 1 < count) values[i + 1] = radius * Math.sin(angle) + shift;
    }
    return values;
  }

  /** Integers from 0 to `below` - 1. */
  integers(count: number, below: number): Uint32Array {
    const values = new Uint32Array(count);
    for (let i = 0; i < count; i++) values[i] = Math.floor(this.next() * below);
    return values;
  }
}
