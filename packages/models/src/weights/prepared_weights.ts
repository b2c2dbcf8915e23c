import type { Cache } from './cache.ts';
import { parseStored, removeContent, SEGMENT_BYTES } from './cached_file.ts';
import { checksum } from './checksum.ts';
import { weightBytes } from './plan.ts';
import type { PlannedWeight } from './plan.ts';
import type { WeightPiece, WeightPieces } from './weight_pieces.ts';

/** Prefix of the keys under which weights are stored as they lie on the GPU: `prepared/KEY/SEGMENT`, `about` and `whole`. */
export const PREPARED = 'prepared/';

/** Segments that are read at a time, or wait for their turn; one more is written to the GPU: 40 MiB in all. Node has four threads. */
const READS = 4;

/** What is stored of weights: segments of 8 MiB, one piece after another, and this beside them once they are whole. */
export interface PreparedMark {
  /** Names and bytes of the tensors on the GPU. */
  readonly tensors: readonly (readonly [name: string, byteLength: number])[];
  /** Of each piece in turn: the index of its tensor, where in it it begins, and its length, in bytes. */
  readonly pieces: readonly number[];
  readonly byteLength: number;
  /** The checksum of each segment. */
  readonly checks: readonly number[];
}

/** What is stored is incomplete or damaged. Loading goes on without it. */
export class PreparedDamage extends Error {}

/** The key of a segment. */
export const segmentKey = (prefix: string, index: number): string => prefix + String(index).padStart(6, '0');

/** Names and bytes of the tensors of a plan. */
export function tensorsOf(plan: readonly PlannedWeight[]): PreparedMark['tensors'] {
  return plan.map(({ spec, dtype }) => [spec.name, weightBytes(spec, dtype)] as const);
}

/** Weights that were kept as they lie on the GPU. */
export class PreparedWeights {
  readonly #cache: Cache;
  readonly #prefix: string;
  readonly #mark: PreparedMark;

  private constructor(cache: Cache, prefix: string, mark: PreparedMark) {
    this.#cache = cache;
    this.#prefix = prefix;
    this.#mark = mark;
  }

  /** The weights under a prefix; undefined where they are not there, or not all. What is damaged is removed. */
  static async find(cache: Cache, prefix: string, signal?: AbortSignal): Promise<PreparedWeights | undefined> {
    const bytes = await cache.get(`${prefix}whole`, undefined, signal);
    if (bytes === undefined) return undefined;
    const mark = decodeMark(bytes);
    if (mark !== undefined) {
      const found = new PreparedWeights(cache, prefix, mark);
      if (await found.#isComplete()) return found;
    }
    await removeIfPossible(cache, prefix);
    return undefined;
  }

  /** Whether they are the tensors of a plan: a device that binds less may call for smaller ones. */
  fits(plan: readonly PlannedWeight[]): boolean {
    return JSON.stringify(this.#mark.tensors) === JSON.stringify(tensorsOf(plan));
  }

  /**
   * Their pieces. Segments are read in their order, several at a time, into memory that is used again.
   *
   * @param file what progress calls them
   * @throws PreparedDamage, while reading, if a segment is missing or its checksum is another
   */
  pieces(plan: readonly PlannedWeight[], file: string): WeightPieces {
    return { totalBytes: this.#mark.byteLength, read: (signal) => this.#read(plan, file, signal) };
  }

  /** Forgets them. */
  async remove(): Promise<void> {
    await removeIfPossible(this.#cache, this.#prefix);
  }

  async *#read(
    plan: readonly PlannedWeight[],
    file: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<WeightPiece> {
    const { pieces } = this.#mark;
    let next = 0;
    /** Bytes of the piece that were in earlier segments. */
    let done = 0;
    for await (const segment of this.#segments(signal)) {
      for (let at = 0; at < segment.byteLength;) {
        const [tensor = 0, offset = 0, length = 0] = pieces.slice(next, next + 3);
        const weight = plan[tensor];
        const bytes = Math.min(length - done, segment.byteLength - at);
        if (weight === undefined || bytes <= 0) throw new PreparedDamage('The index does not fit the plan.');
        const words = new Uint32Array(segment.buffer, segment.byteOffset + at, bytes / 4);
        yield { weight, wordOffset: (offset + done) / 4, words, file, bytes };
        at += bytes;
        done += bytes;
        if (done < length) continue;
        done = 0;
        next += 3;
      }
    }
  }

  async *#segments(signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const { checks } = this.#mark;
    const free: ArrayBufferLike[] = [];
    const reading: Promise<Uint8Array | undefined>[] = [];
    let next = 0;
    const readOn = (): void => {
      if (next >= checks.length) return;
      reading.push(this.#segment(next, free, signal));
      next += 1;
    };
    try {
      while (reading.length < READS && next < checks.length) readOn();
      for (const expected of checks) {
        const segment = await reading.shift();
        signal?.throwIfAborted();
        if (segment === undefined || checksum(segment) !== expected) {
          throw new PreparedDamage('A segment is missing or damaged.');
        }
        readOn();
        yield segment;
        if (this.#cache.fill !== undefined) free.push(segment.buffer);
      }
    } finally {
      await Promise.all(reading);
    }
  }

  /** Undefined where it is missing, or cannot be read. */
  async #segment(
    index: number,
    free: ArrayBufferLike[],
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    const key = segmentKey(this.#prefix, index);
    const length = this.#length(index);
    try {
      if (this.#cache.fill !== undefined) {
        const bytes = new Uint8Array(free.pop() ?? new ArrayBuffer(SEGMENT_BYTES), 0, length);
        return (await this.#cache.fill(key, bytes, signal)) ? bytes : undefined;
      }
      const bytes = await this.#cache.get(key, undefined, signal);
      if (bytes?.byteLength !== length) return undefined;
      // Words begin at multiples of 4.
      return bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    } catch {
      return undefined;
    }
  }

  async #isComplete(): Promise<boolean> {
    const sizes = new Map((await this.#cache.list(this.#prefix)).map(({ key, byteLength }) => [key, byteLength]));
    return this.#mark.checks.every((_, index) => sizes.get(segmentKey(this.#prefix, index)) === this.#length(index));
  }

  #length(index: number): number {
    return Math.min(SEGMENT_BYTES, this.#mark.byteLength - index * SEGMENT_BYTES);
  }
}

/** Removes weights, where the cache lets that happen; without their mark, and with a wrong one, they are never used. */
export async function removeIfPossible(cache: Cache, prefix: string): Promise<void> {
  try {
    await removeContent(cache, prefix);
  } catch {
    // A cache that can only be read.
  }
}

/** The bytes of a mark: its checksum in hexadecimal digits, and JSON. */
export function encodeMark(mark: PreparedMark): Uint8Array {
  const json = JSON.stringify(mark);
  return new TextEncoder().encode(`${textCheck(json)}${json}`);
}

/** Undefined if it is damaged. */
function decodeMark(bytes: Uint8Array): PreparedMark | undefined {
  const text = new TextDecoder().decode(bytes);
  const json = text.slice(CHECK_DIGITS);
  if (text.slice(0, CHECK_DIGITS) !== textCheck(json)) return undefined;
  // What has the right checksum was written by `encodeMark`.
  return parseStored(new TextEncoder().encode(json)) as PreparedMark | undefined;
}

const CHECK_DIGITS = 8;

function textCheck(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  padded.set(bytes);
  return checksum(padded).toString(16).padStart(CHECK_DIGITS, '0');
}
