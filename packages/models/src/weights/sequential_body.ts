import { WeightFormatError } from '@mambalab/kernels';
import { Interruption } from './http_request.ts';
import type { HttpAnswer } from './http_request.ts';

/** A file may be begun anew this often because an earlier part of it is read; each time all before it comes again. */
const MAX_RETURNS = 4;

/** The body of a server that sends files only whole: it is read from front to back, and nothing of it is kept. */
export class SequentialBody {
  readonly #name: string;
  readonly #reopen: () => Promise<HttpAnswer>;
  #chunks: AsyncGenerator<Uint8Array> | undefined;
  /** What has arrived and was not asked for yet. */
  #rest: Uint8Array = new Uint8Array(0);
  #position = 0;
  #returns = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param reopen asks for the whole file again, and checks that it is the same */
  constructor(name: string, first: HttpAnswer, reopen: () => Promise<HttpAnswer>) {
    this.#name = name;
    this.#chunks = first.chunks();
    this.#reopen = reopen;
  }

  /**
   * Fills `target` with the bytes from `start` on. Calls take turns in their order.
   *
   * @param onBytes called with what has arrived of `target`, a part at a time
   * @throws Interruption where the body breaks off: the next call asks for it anew; WeightFormatError if earlier parts
   *   are read again and again
   */
  fill(target: Uint8Array, start: number, onBytes: (count: number) => void): Promise<void> {
    const result = this.#turn.then(() => this.#fill(target, start, onBytes));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #fill(target: Uint8Array, start: number, onBytes: (count: number) => void): Promise<void> {
    if (start < this.#position) await this.#return();
    this.#chunks ??= await this.#begin();
    let filled = 0;
    while (filled < target.byteLength) {
      if (this.#rest.byteLength === 0) this.#rest = await this.#next(start + filled);
      const skipped = Math.min(this.#rest.byteLength, Math.max(0, start - this.#position));
      const taken = this.#rest.subarray(skipped, skipped + target.byteLength - filled);
      target.set(taken, filled);
      filled += taken.byteLength;
      this.#position += skipped + taken.byteLength;
      this.#rest = this.#rest.subarray(skipped + taken.byteLength);
      if (taken.byteLength > 0) onBytes(taken.byteLength);
    }
  }

  async #next(wanted: number): Promise<Uint8Array> {
    try {
      const part = await this.#chunks?.next();
      if (part?.done === false) return part.value;
    } catch (error) {
      this.#chunks = undefined;
      throw error;
    }
    this.#chunks = undefined;
    throw new Interruption(`ended at byte ${this.#position}, before byte ${wanted}`);
  }

  async #begin(): Promise<AsyncGenerator<Uint8Array>> {
    this.#rest = new Uint8Array(0);
    this.#position = 0;
    return (await this.#reopen()).chunks();
  }

  async #return(): Promise<void> {
    this.#returns += 1;
    if (this.#returns > MAX_RETURNS) {
      throw new WeightFormatError(
        `The server of ${this.#name} ignores Range requests, and the file is not read in its order.`,
        'Serve the folder from a server with Range support, or turn the cache on.',
      );
    }
    await this.#chunks?.return(undefined);
    this.#chunks = await this.#begin();
  }
}
