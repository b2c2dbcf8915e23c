import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import type { ByteFile } from './source.ts';

/** A longer header is taken for a damaged or hostile file; vocabularies of half a million tokens take a tenth of it. */
const MAX_HEADER_BYTES = 100_000_000;
/** What is read first: what an HTTP folder has asked for anyway. */
const FIRST_STEP = 64 * 2 ** 10;
const LARGEST_STEP = 8 * 2 ** 20;

/**
 * Reads the front of a file value by value, in steps that grow. Only bytes that the file has are ever asked for or
 * allocated. `need` waits where bytes are missing; everything else takes them from memory.
 */
export class GgufCursor {
  readonly file: ByteFile;
  /** Of the whole file, in bytes. */
  readonly size: number;
  readonly #signal: AbortSignal | undefined;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** Bytes of the file that are in memory. */
  #filled = 0;
  #position = 0;

  private constructor(file: ByteFile, size: number, signal: AbortSignal | undefined) {
    this.file = file;
    this.size = size;
    this.#signal = signal;
  }

  static async open(file: ByteFile, signal?: AbortSignal): Promise<GgufCursor> {
    return new GgufCursor(file, await file.size(signal), signal);
  }

  /** Where the next value begins, in bytes from the start of the file. */
  get position(): number {
    return this.#position;
  }

  /** Bytes of the file behind the position. */
  get rest(): number {
    return this.size - this.#position;
  }

  /** All bytes that were read so far; those in front of the position stay as they are. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Whether so many bytes behind the position are in memory. */
  has(count: number): boolean {
    return this.#filled - this.#position >= count;
  }

  /**
   * Brings so many bytes behind the position into memory.
   *
   * @param what is being read, for the message
   * @throws WeightFormatError if the file ends before them; UnsupportedModelError if the header is longer than any known
   */
  async need(count: number, what: string): Promise<void> {
    if (this.has(count)) return;
    if (count > this.rest) throw damaged(this.file, `ends within ${what}, at byte ${this.size}`);
    const end = this.#position + count;
    if (end > MAX_HEADER_BYTES) {
      throw new UnsupportedModelError(
        `The header of ${this.file.name} is longer than ${MAX_HEADER_BYTES} bytes: at least ${end} with ${what}.`,
        'Check where the file comes from; no known model needs that much.',
      );
    }
    const step = Math.min(LARGEST_STEP, Math.max(FIRST_STEP, this.#filled));
    const until = Math.min(this.size, Math.max(end, this.#filled + step));
    this.#grow(until);
    const read = await this.file.read(this.#filled, until, this.#signal);
    this.#bytes.set(read, this.#filled);
    this.#filled = until;
  }

  #grow(length: number): void {
    if (length <= this.#bytes.byteLength) return;
    const grown = new Uint8Array(Math.min(this.size, Math.max(length, 2 * this.#bytes.byteLength)));
    grown.set(this.#bytes.subarray(0, this.#filled));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** @throws WeightFormatError if it is more than 2^53, and so no count of anything in a file */
  u64(what: string): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged(this.file, `has the number ${value} as ${what}`);
    return Number(value);
  }

  skip(count: number): void {
    this.#take(count);
  }

  #take(count: number): number {
    if (!this.has(count)) throw new RangeError('The bytes of a header were taken before they were read.');
    const at = this.#position;
    this.#position += count;
    return at;
  }
}

export function damaged(file: { readonly name: string }, problem: string): WeightFormatError {
  return new WeightFormatError(
    `${file.name} is no GGUF file, or a damaged one: it ${problem}.`,
    'Download or export the file again.',
  );
}
