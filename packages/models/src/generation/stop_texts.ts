/**
 * Looks for texts that end a text, in pieces that end anywhere. What `push` returns is no part of any of them, whatever
 * follows: an end that may be the beginning of one is held back. The one that is complete first counts, of several the
 * longest, so that pieces of any size give the same text.
 */
export class StopTexts {
  readonly #stops: readonly string[];
  #held = '';
  #found = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether the text ended. */
  get found(): boolean {
    return this.#found;
  }

  /** The text that this piece settles. */
  push(piece: string): string {
    if (this.#found) return '';
    const text = this.#held + piece;
    let begin = text.length;
    let end = Infinity;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0 || at + stop.length > end || (at + stop.length === end && at >= begin)) continue;
      begin = at;
      end = at + stop.length;
    }
    if (end < Infinity) {
      this.#found = true;
      this.#held = '';
      return text.slice(0, begin);
    }
    // The longest end that a stop begins with.
    const longest = this.#stops.reduce((length, stop) => Math.max(length, stop.length), 0);
    begin = Math.max(0, text.length - longest);
    while (begin < text.length && !this.#begins(text.slice(begin))) begin += 1;
    this.#held = text.slice(begin);
    return text.slice(0, begin);
  }

  /** What was held back, where nothing more comes. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  #begins(end: string): boolean {
    return this.#stops.some((stop) => stop.startsWith(end));
  }
}
