/** Tokens of each text after which timing begins, though not all share their steps. */
const PATIENCE = 64;

/**
 * Times tokens of several texts while all of them are being decoded: from when all share their steps until each has had
 * so many tokens more. What came before, prompts among it, does not count.
 */
export class BatchMeter {
  readonly #steps: number;
  readonly #batched: () => number;
  readonly #now: () => number;
  /** Tokens of each text, in all. */
  readonly #counts: number[];
  /** Those when timing began. */
  #before: readonly number[] | undefined;
  #started = 0;
  #ended: number | undefined;
  #timed = 0;
  #together = 0;

  /** @param batched tells how many texts share their steps now; none where one is alone */
  constructor(texts: number, steps: number, batched: () => number, now: () => number = () => performance.now()) {
    this.#steps = steps;
    this.#batched = batched;
    this.#now = now;
    this.#counts = Array.from({ length: texts }, () => 0);
  }

  /** Counts a token of a text. Returns whether everything is timed. */
  count(text: number): boolean {
    this.#counts[text] = (this.#counts[text] ?? 0) + 1;
    if (this.#ended !== undefined) return true;
    const before = this.#before;
    if (before === undefined) {
      const together = Math.max(1, this.#batched());
      const fewest = Math.min(...this.#counts);
      if (fewest < 1 || (together < this.#counts.length && fewest < PATIENCE)) return false;
      this.#before = [...this.#counts];
      this.#together = together;
      this.#started = this.#now();
      return false;
    }
    if (this.#fewestSince(before) < this.#steps) return false;
    this.end();
    return true;
  }

  /** Ends timing: a text has no more tokens. */
  end(): void {
    if (this.#ended !== undefined || this.#before === undefined) return;
    this.#ended = this.#now();
    this.#timed = this.#fewestSince(this.#before);
  }

  /** @throws RangeError if a text ended before all were being decoded */
  result(): { readonly milliseconds: number; readonly steps: number; readonly together: number } {
    if (this.#ended === undefined || this.#timed === 0) {
      throw new RangeError('A text ended before all of them were being decoded.');
    }
    return { milliseconds: this.#ended - this.#started, steps: this.#timed, together: this.#together };
  }

  #fewestSince(before: readonly number[]): number {
    return Math.min(...this.#counts.map((count, text) => count - (before[text] ?? 0)));
  }
}
