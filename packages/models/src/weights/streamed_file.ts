import { IntegrityError, WeightFormatError } from '@mambalab/kernels';
import type { CachedFile } from './cached_file.ts';
import { SEGMENT_BYTES } from './cached_file.ts';
import type { Hash } from './content_hash.ts';
import { SegmentHash } from './content_hash.ts';
import type { HttpFile } from './http_file.ts';
import type { FileFacts } from './http_headers.ts';
import type { ByteFile } from './source.ts';
import type { Traffic } from './traffic.ts';
import { unlessAborted } from './traffic.ts';

/** Where the bytes of a file come from, and where they are kept. */
export interface StreamedFileParts {
  readonly name: string;
  readonly facts: FileFacts;
  /** Names its content, where the server tells enough. */
  readonly content: string | undefined;
  readonly traffic: Traffic;
  /** The file behind the network, where it is open already. */
  readonly origin: HttpFile | undefined;
  readonly openOrigin: () => Promise<HttpFile>;
  /** Its place in a cache. */
  readonly stored: CachedFile | undefined;
  readonly createHash: () => Hash;
}

/**
 * A file behind a network, as a {@link ByteFile}. Before streaming begins, ranges are fetched as they are asked for
 * (headers, mostly). While streaming, whole segments are fetched, which several reads share, and stored.
 */
export class StreamedFile implements ByteFile {
  readonly name: string;
  readonly #parts: StreamedFileParts;
  #origin: Promise<HttpFile> | undefined;
  #whole: Promise<boolean> | undefined;
  /** Segments whose bytes are counted as loaded. */
  readonly #counted = new Set<number>();
  /** Segments that were here, and so are in the cache if there is one. */
  readonly #seen = new Set<number>();
  readonly #hash: SegmentHash | undefined;

  constructor(parts: StreamedFileParts) {
    this.name = parts.name;
    this.#parts = parts;
    this.#origin = parts.origin === undefined ? undefined : Promise.resolve(parts.origin);
    if (parts.stored !== undefined && parts.facts.sha256 !== undefined) {
      this.#hash = new SegmentHash(parts.createHash());
    }
  }

  size(): Promise<number> {
    return Promise.resolve(this.#size);
  }

  identity(): Promise<string | undefined> {
    return Promise.resolve(this.#parts.content);
  }

  async read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted();
    if (end > this.#size) {
      throw new WeightFormatError(
        `${this.name} ends at byte ${this.#size}, expected bytes up to ${end}.`,
        'The file on the server is cut short: upload or export it again.',
      );
    }
    if (start === end) return new Uint8Array(0);
    return await unlessAborted(this.#read(start, end), signal);
  }

  /** Whether a cache holds all of it, checked. */
  isWhole(): Promise<boolean> {
    const { stored } = this.#parts;
    this.#whole ??= stored === undefined ? Promise.resolve(false) : stored.isWhole();
    return this.#whole;
  }

  /** The whole of a small file, which is then checked and kept. */
  async readAll(signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = await unlessAborted(this.#join(0, this.#size), signal);
    await this.complete(signal);
    return bytes;
  }

  /** Counts the segments that the cache holds as loaded. Returns the bytes that it does not hold. */
  async countHeld(): Promise<number> {
    const held = (await this.#parts.stored?.held()) ?? new Set<number>();
    for (const index of held) this.#count(index, 'cache');
    return this.#parts.stored === undefined ? 0 : this.#size - [...held].reduce((sum, i) => sum + this.#length(i), 0);
  }

  /**
   * Fetches what nobody read, checks the whole and marks it. Without a cache there is nothing to do.
   *
   * @throws IntegrityError if the content is not what the server names; it is then forgotten
   */
  async complete(signal?: AbortSignal): Promise<void> {
    const { stored } = this.#parts;
    if (stored === undefined || (await this.isWhole())) return;
    const missing = Array.from({ length: this.#segments }, (_, index) => index).filter((i) => !this.#seen.has(i));
    const fetching = Promise.all(missing.map(async (index) => void (await this.#segment(index))));
    await unlessAborted(fetching, signal);
    if (this.#hash !== undefined) await this.#check(this.#hash, stored, signal);
    await stored.complete(this.#hash === undefined ? 'size' : 'sha256');
    this.#whole = Promise.resolve(true);
  }

  get #size(): number {
    return this.#parts.facts.size;
  }

  get #segments(): number {
    return Math.ceil(this.#size / SEGMENT_BYTES);
  }

  #length(index: number): number {
    return Math.min(SEGMENT_BYTES, this.#size - index * SEGMENT_BYTES);
  }

  async #read(start: number, end: number): Promise<Uint8Array> {
    const { stored, traffic, origin } = this.#parts;
    if (await this.isWhole()) {
      const bytes = await stored?.read(start, end, traffic.signal);
      if (bytes !== undefined) return bytes;
    }
    if (traffic.streaming || (origin?.sequential === true && end > origin.headBytes))
      return await this.#join(start, end);
    if (origin !== undefined && end <= origin.headBytes) return await origin.read(start, end);
    const bytes = await stored?.read(start, end, traffic.signal);
    if (bytes !== undefined) return bytes;
    return await traffic.slot(async () => (await this.#open()).read(start, end, traffic.signal));
  }

  /** Bytes `[start, end)` out of segments. */
  async #join(start: number, end: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(end - start);
    const indices: number[] = [];
    for (let index = Math.floor(start / SEGMENT_BYTES); index * SEGMENT_BYTES < end; index++) indices.push(index);
    await Promise.all(
      indices.map(async (index) => {
        const base = index * SEGMENT_BYTES;
        const segment = await this.#segment(index);
        bytes.set(segment.subarray(Math.max(start - base, 0), end - base), Math.max(base - start, 0));
      }),
    );
    return bytes;
  }

  #segment(index: number): Promise<Uint8Array> {
    return this.#parts.traffic.segment(`${this.name}/${index}`, () => this.#load(index));
  }

  async #load(index: number): Promise<Uint8Array> {
    const { stored, traffic } = this.#parts;
    const found = await stored?.get(index, traffic.signal);
    if (found !== undefined) return this.#arrived(index, found);
    if (stored === undefined) return this.#arrived(index, await this.#fetch(index));
    const fetchAndKeep = async (): Promise<Uint8Array> => {
      // Another loader may have brought it while this one waited for its turn.
      const brought = await stored.get(index, traffic.signal);
      if (brought !== undefined) return brought;
      const bytes = await this.#fetch(index);
      await stored.put(index, bytes, traffic.signal);
      return bytes;
    };
    return this.#arrived(index, await stored.exclusive(index, fetchAndKeep, traffic.signal));
  }

  async #fetch(index: number): Promise<Uint8Array> {
    const { traffic } = this.#parts;
    const origin = await this.#open();
    const base = index * SEGMENT_BYTES;
    const isNew = !this.#counted.has(index);
    const onBytes = (count: number): void => (isNew ? traffic.count(this.name, count, 'network') : undefined);
    const bytes = await origin.read(base, base + this.#length(index), traffic.signal, onBytes);
    this.#counted.add(index);
    return bytes;
  }

  #arrived(index: number, bytes: Uint8Array): Uint8Array {
    this.#count(index, 'cache');
    this.#seen.add(index);
    this.#hash?.add(index, bytes);
    return bytes;
  }

  #count(index: number, from: 'cache'): void {
    if (this.#counted.has(index)) return;
    this.#counted.add(index);
    this.#parts.traffic.count(this.name, this.#length(index), from);
  }

  #open(): Promise<HttpFile> {
    if (this.#origin === undefined) {
      this.#origin = this.#parts.openOrigin();
      this.#origin.catch(() => (this.#origin = undefined));
    }
    return this.#origin;
  }

  async #check(hash: SegmentHash, stored: CachedFile, signal: AbortSignal | undefined): Promise<void> {
    const { facts, traffic } = this.#parts;
    while (hash.next < this.#segments) {
      signal?.throwIfAborted();
      const index = hash.next;
      hash.add(index, (await stored.get(index, traffic.signal)) ?? (await this.#fetch(index)));
    }
    const found = hash.digest();
    if (found === facts.sha256) return;
    await stored.clear();
    throw new IntegrityError(
      `${this.name} has the SHA-256 ${found}; the server names ${facts.sha256 ?? 'none'}.`,
      'Load the model again; if that does not help, its upload is damaged.',
    );
  }
}
