/**
 * What is streamed, for one reader. Nothing is written before it is asked for; leaving a loop over it, or `return()`,
 * ends what it is made of.
 */
export class EventStream<T> implements AsyncIterableIterator<T, void, undefined> {
  readonly #source: AsyncGenerator<T, void>;
  #first: IteratorResult<T, void> | undefined;

  private constructor(first: IteratorResult<T, void>, source: AsyncGenerator<T, void>) {
    this.#first = first;
    this.#source = source;
  }

  /** A stream whose first event is there, so that a request that cannot be served fails before its answer begins. */
  static async open<T>(source: AsyncGenerator<T, void>): Promise<EventStream<T>> {
    return new EventStream(await source.next(), source);
  }

  async next(): Promise<IteratorResult<T, void>> {
    const first = this.#first;
    this.#first = undefined;
    return first ?? (await this.#source.next());
  }

  async return(): Promise<IteratorResult<T, void>> {
    this.#first = undefined;
    return await this.#source.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Several sources as one, as their values come. Where one fails or the reader leaves, all end. */
export async function* merge<T>(sources: readonly AsyncGenerator<T, void>[]): AsyncGenerator<T, void> {
  const ask = async (at: number): Promise<{ readonly at: number; readonly result: IteratorResult<T, void> }> => {
    const source = sources[at];
    return { at, result: (await source?.next()) ?? { done: true, value: undefined } };
  };
  const asked = new Map(sources.map((_, at) => [at, ask(at)] as const));
  try {
    while (asked.size > 0) {
      const { at, result } = await Promise.race(asked.values());
      if (result.done === true) {
        asked.delete(at);
      } else {
        // The next one is asked for at once: texts that are decoded together wait for each other.
        asked.set(at, ask(at));
        yield result.value;
      }
    }
  } finally {
    // Those that were asked and not read may fail, too.
    for (const waiting of asked.values()) waiting.catch(() => undefined);
    await Promise.allSettled(sources.map((source) => source.return()));
  }
}
