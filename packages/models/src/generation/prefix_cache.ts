import type { Device } from '@mambalab/kernels';
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
   * Keeps what a sequence remembers, which are `tokens`. What is larger than the cache is not kept.
   *
   * @throws OutOfMemoryError
   */
  async keep(tokens: readonly number[], sequence: Sequence, device: Device): Promise<void> {
    if (tokens.length === 0 || this.find(tokens)?.length === tokens.length) return;
    const needed = sequence.snapshotBytes('all');
    if (needed > this.maximumBytes) return;
    while (this.bytes + needed > this.maximumBytes) this.#entries.shift()?.snapshot.store?.dispose();
    const snapshot = await guardedSnapshot(device, 'Keeping the beginning of a session', sequence);
    this.#entries.push({ tokens: [...tokens], snapshot });
  }

  clear(): void {
    for (const { snapshot } of this.#entries) snapshot.store?.dispose();
    this.#entries.length = 0;
  }
}
