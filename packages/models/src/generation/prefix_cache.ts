import type { Device } from '@mambalab/kernels';
import { OutOfMemoryError } from '@mambalab/kernels';
import type { Sequence } from './sequence.ts';
import type { Snapshot } from './snapshot.ts';
import { guardedSnapshot } from './snapshot.ts';

interface Entry {
  readonly tokens: readonly number[];
  readonly snapshot: Snapshot;
}

/**
 * What sequences remembered after the beginnings that texts share, such as a system prompt, by token ids. The least
 * recently used go first where there are more than `maximumBytes`.
 */
export class PrefixCache {
  readonly maximumBytes: number;
  /** The most recently used last. */
  readonly #entries: Entry[] = [];
  /** How often it was cleared. */
  #clearings = 0;

  constructor(maximumBytes: number) {
    this.maximumBytes = maximumBytes;
  }

  get bytes(): number {
    return this.#entries.reduce((sum, { snapshot }) => sum + (snapshot.store?.byteLength ?? 0), 0);
  }

  /** Numbers of tokens of the entries, the most recently used last. */
  get lengths(): readonly number[] {
    return this.#entries.map(({ tokens }) => tokens.length);
  }

  /** The longest entry that `tokens` begin with. */
  find(tokens: readonly number[]): Snapshot | undefined {
    const beginsWith = (entry: Entry): boolean =>
      entry.tokens.length <= tokens.length && entry.tokens.every((token, index) => token === tokens[index]);
    const [best] = this.#entries.filter(beginsWith).toSorted((a, b) => b.tokens.length - a.tokens.length);
    if (best === undefined) return undefined;
    this.#entries.push(...this.#entries.splice(this.#entries.indexOf(best), 1));
    return best.snapshot;
  }

  /**
   * Lets an empty sequence begin with the longest entry that `tokens` begin with. Returns of how many tokens.
   *
   * @throws OutOfMemoryError
   */
  async adopt(tokens: readonly number[], sequence: Sequence): Promise<number> {
    const found = this.find(tokens);
    if (found === undefined) return 0;
    await sequence.reserve(Math.max(found.capacity, found.length));
    // It may be gone meanwhile.
    if (!this.#entries.some(({ snapshot }) => snapshot === found)) return 0;
    sequence.restore(found);
    return found.length;
  }

  /** Keeps what a sequence remembers, which are `tokens`. What is larger than the cache, or the memory, is not kept. */
  async keep(tokens: readonly number[], sequence: Sequence, device: Device): Promise<void> {
    if (tokens.length === 0 || this.#has(tokens)) return;
    const needed = sequence.snapshotBytes('all');
    if (needed > this.maximumBytes) return;
    this.#shrink(this.maximumBytes - needed);
    const clearings = this.#clearings;
    try {
      const snapshot = await guardedSnapshot(device, 'Keeping the beginning of a text', sequence);
      // Others may have kept the same, or cleared everything, in the meantime.
      if (this.#has(tokens) || clearings !== this.#clearings) snapshot.store?.dispose();
      else this.#entries.push({ tokens: [...tokens], snapshot });
    } catch (error) {
      // Whoever comes next processes it again.
      if (!(error instanceof OutOfMemoryError)) throw error;
    }
    this.#shrink(this.maximumBytes);
  }

  clear(): void {
    this.#clearings += 1;
    this.#shrink(-1);
  }

  #has(tokens: readonly number[]): boolean {
    return this.find(tokens)?.length === tokens.length;
  }

  #shrink(bytes: number): void {
    while (this.#entries.length > 0 && this.bytes > bytes) this.#entries.shift()?.snapshot.store?.dispose();
  }
}
