import type { GeneratedPiece, GenerationResult } from '../generation/generate.ts';
import { readableText } from '../generation/readable_text.ts';
import type { TextStream } from '../language_model.ts';
import type { Connection } from './connection.ts';

/** Tells the worker of texts that nobody can read any more. */
const dropped = new FinalizationRegistry<() => void>((drop) => drop());

/**
 * A text that is written in a worker. Each reader has its counterpart there, which asks the text for one piece at a
 * time: so it runs as fast as its fastest reader, never ahead of it, and stops when the last one leaves, as a
 * `Generation` does.
 */
export class RemoteText implements TextStream {
  readonly #connection: Connection;
  readonly #id: number;
  readonly #signal: AbortSignal | undefined;
  readonly #problem: Error | undefined;

  /**
   * @param start tells the worker to make the text
   * @param problem what makes it impossible; told when it is read
   */
  constructor(connection: Connection, signal: AbortSignal | undefined, start: (id: number) => void, problem?: Error) {
    const id = connection.newId();
    this.#connection = connection;
    this.#id = id;
    this.#signal = signal;
    this.#problem = problem;
    if (problem !== undefined) return;
    start(id);
    const abort = (): void => connection.note('abort', id);
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    dropped.register(this, () => {
      signal?.removeEventListener('abort', abort);
      connection.note('drop', id);
    });
  }

  get result(): Promise<GenerationResult> {
    return this.#result();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPiece, void> {
    if (this.#problem !== undefined) throw this.#problem;
    const reader = this.#connection.newId();
    let isOver = false;
    try {
      for (;;) {
        const { value, done } = await this.#next(reader);
        isOver = done === true;
        if (value === undefined) return;
        yield value;
      }
    } catch (error) {
      isOver = true;
      throw error;
    } finally {
      if (!isOver) await this.#connection.call('leave', [this.#id, reader]);
    }
  }

  toReadableStream(): ReadableStream<string> {
    return readableText(this[Symbol.asyncIterator]());
  }

  async #next(reader: number): Promise<IteratorResult<GeneratedPiece, void>> {
    return await this.#connection.call('next', [this.#id, reader], { abortedBy: this.#signal });
  }

  async #result(): Promise<GenerationResult> {
    if (this.#problem !== undefined) throw this.#problem;
    return await this.#connection.call('result', [this.#id], { abortedBy: this.#signal });
  }
}
