/** Bytes that are read, or on their way, beyond the part that is worked on. */
const AHEAD_BYTES = 24 * 2 ** 20;
/** Reads of small parts that are on their way at a time. */
const AHEAD_PARTS = 64;

/** A part of a file that is still to be read. */
export interface Readable<Content> {
  /** What it takes in memory. */
  readonly byteLength: number;
  read(signal?: AbortSignal): Promise<Content>;
}

/** Reads parts in their order, some of them while the caller still works on an earlier one. */
export async function* readAhead<Content, Part extends Readable<Content>>(
  parts: readonly (Part & Readable<Content>)[],
  signal?: AbortSignal,
): AsyncGenerator<{ readonly part: Part; readonly content: Content }> {
  const reading: { readonly part: Part; readonly content: Promise<Content> }[] = [];
  let aheadBytes = 0;
  let next = 0;
  const fill = (): void => {
    for (let part = parts[next]; part !== undefined; part = parts[next]) {
      const isRoom = aheadBytes + part.byteLength <= AHEAD_BYTES && reading.length < AHEAD_PARTS;
      if (!isRoom && reading.length > 0) return;
      const content = part.read(signal);
      // A failure shows when its turn comes.
      content.catch(() => undefined);
      reading.push({ part, content });
      aheadBytes += part.byteLength;
      next += 1;
    }
  };
  fill();
  for (let current = reading.shift(); current !== undefined; current = reading.shift()) {
    const { part } = current;
    aheadBytes -= part.byteLength;
    fill();
    const content = await current.content;
    signal?.throwIfAborted();
    yield { part, content };
  }
}
