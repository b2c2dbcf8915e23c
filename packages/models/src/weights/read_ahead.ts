/** Bytes that are read, or on their way, beyond the part that is worked on. */
const AHEAD_BYTES = 32 * 2 ** 20;
/** Reads of small parts that are on their way at a time. */
const AHEAD_PARTS = 64;

/** A part of a file that is still to be read. */
export interface Readable {
  readonly byteLength: number;
  read(signal?: AbortSignal): Promise<Uint8Array>;
}

/** Reads parts in their order, some of them while the caller still works on an earlier one. */
export async function* readAhead<Part extends Readable>(
  parts: readonly Part[],
  signal?: AbortSignal,
): AsyncGenerator<{ readonly part: Part; readonly bytes: Uint8Array }> {
  const reading: { readonly part: Part; readonly bytes: Promise<Uint8Array> }[] = [];
  let aheadBytes = 0;
  let next = 0;
  const fill = (): void => {
    for (let part = parts[next]; part !== undefined; part = parts[next]) {
      const isRoom = aheadBytes + part.byteLength <= AHEAD_BYTES && reading.length < AHEAD_PARTS;
      if (!isRoom && reading.length > 0) return;
      const bytes = part.read(signal);
      // A failure shows when its turn comes.
      bytes.catch(() => undefined);
      reading.push({ part, bytes });
      aheadBytes += part.byteLength;
      next += 1;
    }
  };
  fill();
  for (let current = reading.shift(); current !== undefined; current = reading.shift()) {
    const { part } = current;
    aheadBytes -= part.byteLength;
    fill();
    const bytes = await current.bytes;
    signal?.throwIfAborted();
    yield { part, bytes };
  }
}
