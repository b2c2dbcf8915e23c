import type { GeneratedPiece, GenerationResult } from './generate.ts';
import { readableText } from './readable_text.ts';
import type { GenerationSetup } from './run_generation.ts';
import { Progress, runGeneration } from './run_generation.ts';

/**
 * A text in the making: iterate over it for its pieces, or await `result`, or both, in any order and any number of
 * times. It runs as fast as its fastest reader asks, and never ahead of it: a slow reader alone leaves nothing waiting.
 * All readers share one list of pieces, which is as long as the text. When the last reader leaves before the end, the
 * text stops there.
 */
export class Generation implements AsyncIterable<GeneratedPiece> {
  readonly #progress = new Progress();
  readonly #source: AsyncGenerator<GeneratedPiece, GenerationResult>;
  readonly #pieces: GeneratedPiece[] = [];
  #outcome: Promise<GenerationResult> | undefined;
  #pulling: Promise<void> | undefined;
  #readers = 0;

  constructor(setup: GenerationSetup) {
    this.#source = runGeneration(setup, this.#progress);
  }

  /**
   * The whole text with its statistics. Asking for it runs the generation to its end; after a reader left early it is
   * what was written until then, with the finish reason `abort`. Rejects with `signal.reason` if the signal aborts.
   */
  get result(): Promise<GenerationResult> {
    return this.#drain();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPiece, void> {
    this.#readers += 1;
    try {
      for (let next = 0; ; next++) {
        while (next >= this.#pieces.length && this.#outcome === undefined) await this.#pull();
        const piece = this.#pieces[next];
        if (piece === undefined) {
          await this.#outcome;
          return;
        }
        yield piece;
      }
    } finally {
      this.#readers -= 1;
      if (this.#readers === 0 && this.#outcome === undefined) await this.#stop();
    }
  }

  /** The text as a stream of strings, one a token. A token is written when it is asked for. */
  toReadableStream(): ReadableStream<string> {
    return readableText(this[Symbol.asyncIterator]());
  }

  async #drain(): Promise<GenerationResult> {
    this.#readers += 1;
    try {
      while (this.#outcome === undefined) await this.#pull();
      return await this.#outcome;
    } finally {
      this.#readers -= 1;
    }
  }

  /** Advances by one piece, however many readers ask at the same time. */
  #pull(): Promise<void> {
    this.#pulling ??= this.#advance().finally(() => {
      this.#pulling = undefined;
    });
    return this.#pulling;
  }

  async #advance(): Promise<void> {
    try {
      const { value, done } = await this.#source.next();
      if (done === true) this.#outcome = Promise.resolve(value);
      else this.#pieces.push(value);
    } catch (error) {
      this.#outcome = Promise.reject(error);
      // Every reader awaits it; with none left, it must not end the process.
      this.#outcome.catch(() => undefined);
    }
  }

  async #stop(): Promise<void> {
    await this.#pulling;
    // A reader may have come while the last piece was on its way.
    if (this.#outcome !== undefined || this.#readers > 0) return;
    const result = this.#progress.result('abort');
    // Set at once: whoever comes while the generation winds up must not pull from it.
    this.#outcome = this.#source.return(result).then(() => result);
    this.#outcome.catch(() => undefined);
    await this.#outcome;
  }
}
