import type { Cache } from './cache.ts';
import type { StoredAbout } from './cached_file.ts';
import { SEGMENT_BYTES } from './cached_file.ts';
import { checksum } from './checksum.ts';
import type { PlannedWeight } from './plan.ts';
import { encodeMark, removeIfPossible, segmentKey, tensorsOf } from './prepared_weights.ts';
import type { WeightPiece, WeightPieces } from './weight_pieces.ts';

/** Segments that are being stored at a time, beside the one that is filled. */
const WRITES = 3;

/**
 * Keeps weights as they lie on the GPU while they pass on their way there. A cache that refuses ends the keeping, and
 * never the load. Segments that no mark stands beside are never trusted.
 */
export class PreparedWriter {
  readonly #cache: Cache;
  readonly #prefix: string;
  readonly #about: Omit<StoredAbout, 'size'>;
  readonly #plan: readonly PlannedWeight[];
  readonly #places: ReadonlyMap<PlannedWeight, number>;
  readonly #pieces: number[] = [];
  readonly #checks: number[] = [];
  readonly #writing = new Set<Promise<void>>();
  #segment: Uint8Array | undefined;
  #filled = 0;
  #byteLength = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(cache: Cache, prefix: string, about: Omit<StoredAbout, 'size'>, plan: readonly PlannedWeight[]) {
    this.#cache = cache;
    this.#prefix = prefix;
    this.#about = about;
    this.#plan = plan;
    this.#places = new Map(plan.map((weight, index) => [weight, index]));
  }

  /** Passes pieces on, and stores them. */
  keep(pieces: WeightPieces): WeightPieces {
    return { totalBytes: pieces.totalBytes, read: (signal) => this.#pass(pieces, signal) };
  }

  /**
   * Stores what is left, and marks the whole. Call it once the source is known to be right.
   *
   * @returns the failure of the cache, where there was one: nothing is kept then
   */
  async complete(signal?: AbortSignal): Promise<{ readonly error: unknown } | undefined> {
    if (this.#filled > 0) await this.#store(signal);
    await Promise.all(this.#writing);
    signal?.throwIfAborted();
    if (this.#failure === undefined) await this.#attempt(this.#mark());
    if (this.#failure !== undefined) await this.discard();
    return this.#failure;
  }

  /** Removes what was stored, unless another loader completed it. */
  async discard(): Promise<void> {
    await Promise.all(this.#writing);
    this.#failure ??= { error: new Error('The load ended early.') };
    const mark = await this.#cache.get(`${this.#prefix}whole`).catch(() => undefined);
    if (mark === undefined) await removeIfPossible(this.#cache, this.#prefix);
  }

  async *#pass(pieces: WeightPieces, signal: AbortSignal | undefined): AsyncGenerator<WeightPiece> {
    for await (const piece of pieces.read(signal)) {
      if (this.#failure === undefined) await this.#add(piece, signal);
      yield piece;
    }
  }

  async #add({ weight, wordOffset, words }: WeightPiece, signal: AbortSignal | undefined): Promise<void> {
    this.#list(this.#places.get(weight) ?? 0, wordOffset * 4, words.byteLength);
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    for (let at = 0; at < bytes.byteLength;) {
      this.#segment ??= new Uint8Array(SEGMENT_BYTES);
      const part = bytes.subarray(at, at + SEGMENT_BYTES - this.#filled);
      this.#segment.set(part, this.#filled);
      this.#filled += part.byteLength;
      at += part.byteLength;
      if (this.#filled === SEGMENT_BYTES) await this.#store(signal);
    }
    this.#byteLength += bytes.byteLength;
  }

  /** Pieces that follow each other in their tensor are one. */
  #list(tensor: number, offset: number, length: number): void {
    const at = this.#pieces.length - 3;
    const [last = -1, start = 0, before = 0] = this.#pieces.slice(Math.max(0, at));
    if (last === tensor && start + before === offset) this.#pieces[at + 2] = before + length;
    else this.#pieces.push(tensor, offset, length);
  }

  /** Begins to store the segment that is filled, and waits for another one where there are many. */
  async #store(signal: AbortSignal | undefined): Promise<void> {
    if (this.#failure !== undefined || this.#segment === undefined) return;
    const bytes = this.#segment.subarray(0, this.#filled);
    const index = this.#checks.length;
    this.#checks.push(checksum(bytes));
    this.#segment = undefined;
    this.#filled = 0;
    // Before its segments, so that what is stored can always be told apart.
    if (index === 0) await this.#attempt(this.#describe(0));
    const writing = this.#attempt(this.#cache.put(segmentKey(this.#prefix, index), bytes, signal));
    this.#writing.add(writing);
    void writing.then(() => this.#writing.delete(writing));
    if (this.#writing.size >= WRITES) await Promise.race(this.#writing);
  }

  async #mark(): Promise<void> {
    const keys = new Set((await this.#cache.list(this.#prefix)).map(({ key }) => key));
    const missing = this.#checks.findIndex((_, index) => !keys.has(segmentKey(this.#prefix, index)));
    if (missing >= 0) throw new Error('Another loader removed what was stored.');
    await this.#describe(this.#byteLength);
    const mark = {
      tensors: tensorsOf(this.#plan),
      pieces: this.#pieces,
      byteLength: this.#byteLength,
      checks: this.#checks,
    };
    await this.#cache.put(`${this.#prefix}whole`, encodeMark(mark));
  }

  async #describe(size: number): Promise<void> {
    const about: StoredAbout = { ...this.#about, size };
    await this.#cache.put(`${this.#prefix}about`, new TextEncoder().encode(JSON.stringify(about)));
  }

  async #attempt(storing: Promise<void>): Promise<void> {
    try {
      await storing;
    } catch (error) {
      this.#failure ??= { error };
    }
  }
}
