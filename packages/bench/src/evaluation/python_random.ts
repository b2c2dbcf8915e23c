const WORDS = 624;
const MIDDLE = 397;

/**
 * The generator of Python's module `random`, and the ways of drawing that are needed here: with a seed, it gives what
 * Python gives. Data that Python made can so be made again, and examples chosen as the lm-evaluation-harness chooses.
 *
 * Source: Matsumoto and Nishimura, Mersenne Twister (1998), MT19937 seeded by an array; Python 3.11, `random.py`.
 */
export class PythonRandom {
  readonly #state = new Uint32Array(WORDS);
  #next = WORDS;

  /** @param seed a whole number from 0 to 2^53 - 1 */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`${seed} is no seed.`);
    const high = Math.floor(seed / 2 ** 32);
    this.#seedBy(high === 0 ? [seed] : [seed >>> 0, high]);
  }

  /** Uniform in [0, 1), of 53 bits. */
  random(): number {
    const high = this.#word() >>> 5;
    const low = this.#word() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** A whole number from 0 to `limit` - 1: Python's `randrange(limit)`. */
  below(limit: number): number {
    if (!(Number.isInteger(limit) && limit >= 1 && limit < 2 ** 32)) {
      throw new RangeError(`There is no whole number below ${limit} to draw.`);
    }
    const shift = Math.clz32(limit);
    let drawn: number;
    do drawn = this.#word() >>> shift;
    while (drawn >= limit);
    return drawn;
  }

  choice<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }

  /** In place. */
  shuffle(values: unknown[]): void {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [values[i], values[j]] = [values[j], values[i]];
    }
  }

  /** `count` of the values, none twice, in random order. */
  sample<T>(values: readonly T[], count: number): T[] {
    const { length } = values;
    if (count > length) throw new RangeError(`There are no ${count} of ${length} values.`);
    // Python takes a list or a set, by the memory that each needs: they draw differently.
    const listLimit = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
    if (length <= listLimit) {
      const pool = [...values];
      return Array.from({ length: count }, (_, i) => {
        const j = this.below(length - i);
        const drawn = pool[j] as T;
        pool[j] = pool[length - i - 1] as T;
        return drawn;
      });
    }
    const taken = new Set<number>();
    return Array.from({ length: count }, () => {
      let j = this.below(length);
      while (taken.has(j)) j = this.below(length);
      taken.add(j);
      return values[j] as T;
    });
  }

  #seedBy(key: readonly number[]): void {
    const state = this.#state;
    state[0] = 19_650_218;
    for (let i = 1; i < WORDS; i++) state[i] = Math.imul(1_812_433_253, this.#mixed(i)) + i;
    let i = 1;
    const advance = (): void => {
      i += 1;
      if (i < WORDS) return;
      state[0] = this.#at(WORDS - 1);
      i = 1;
    };
    for (let k = 0; k < WORDS; k++) {
      const j = k % key.length;
      state[i] = (this.#at(i) ^ Math.imul(this.#mixed(i), 1_664_525)) + (key[j] ?? 0) + j;
      advance();
    }
    for (let k = 0; k < WORDS - 1; k++) {
      state[i] = (this.#at(i) ^ Math.imul(this.#mixed(i), 1_566_083_941)) - i;
      advance();
    }
    state[0] = 0x8000_0000;
  }

  #at(index: number): number {
    return this.#state[index] ?? 0;
  }

  #mixed(index: number): number {
    const before = this.#at(index - 1);
    return before ^ (before >>> 30);
  }

  #word(): number {
    if (this.#next >= WORDS) this.#twist();
    let word = this.#at(this.#next);
    this.#next += 1;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c_5680;
    word ^= (word << 15) & 0xefc6_0000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #twist(): void {
    for (let i = 0; i < WORDS; i++) {
      const joined = (this.#at(i) & 0x8000_0000) | (this.#at((i + 1) % WORDS) & 0x7fff_ffff);
      this.#state[i] = this.#at((i + MIDDLE) % WORDS) ^ (joined >>> 1) ^ (joined & 1 ? 0x9908_b0df : 0);
    }
    this.#next = 0;
  }
}
