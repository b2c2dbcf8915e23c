import { ArgumentError } from '@mambalab/kernels';

/** How far a download is. */
export interface DownloadProgress {
  /** The file that the last bytes belong to. */
  readonly file: string;
  /** Bytes of all files that are here, those that a cache held included. */
  readonly loadedBytes: number;
  /** Bytes of all files. */
  readonly totalBytes: number;
}

const PARALLEL = 4;
/** Segments that stay in memory after their arrival, since the next read often begins in the last one. */
const KEPT_SEGMENTS = 2;
/** Progress is told whenever this much has arrived. */
const REPORT_BYTES = 512 * 2 ** 10;

/** What the files of one folder share: a bound on parallel requests, the segments in memory, and the count of bytes. */
export class Traffic {
  readonly #parallel: number;
  readonly #onDownload: ((progress: DownloadProgress) => void) | undefined;
  readonly #closed = new AbortController();
  readonly #waiting: (() => void)[] = [];
  readonly #pending = new Set<Promise<unknown>>();
  #running = 0;
  readonly #segments = new Map<string, { readonly bytes: Promise<Uint8Array>; settled: boolean }>();
  #streaming = false;
  #loadedBytes = 0;
  #totalBytes = 0;
  #unreported = 0;
  #isDownloading = false;

  constructor(parallel: number = PARALLEL, onDownload?: (progress: DownloadProgress) => void) {
    this.#parallel = parallel;
    this.#onDownload = onDownload;
  }

  /** Aborts when the folder is closed. */
  get signal(): AbortSignal {
    return this.#closed.signal;
  }

  /** Whether most of the bytes will be read, in their order. */
  get streaming(): boolean {
    return this.#streaming;
  }

  /** @param totalBytes of all files */
  beginStreaming(totalBytes: number): void {
    this.#streaming = true;
    this.#totalBytes = totalBytes;
  }

  /** Runs `body` when fewer than the bound of others run. */
  slot<T>(body: () => Promise<T>): Promise<T> {
    return this.track(this.#inSlot(body));
  }

  /** {@link close} waits for it. */
  async track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  /** A segment that is in memory or on its way, or what `load` brings. */
  segment(key: string, load: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const known = this.#segments.get(key);
    if (known !== undefined) return known.bytes;
    const entry = { bytes: this.slot(load), settled: false };
    this.#segments.set(key, entry);
    void this.#keep(key, entry);
    return entry.bytes;
  }

  /** Counts bytes that are here. Whoever listens is told once some came from the network. */
  count(file: string, bytes: number, from: 'network' | 'cache'): void {
    this.#loadedBytes += bytes;
    if (!this.#streaming) return;
    this.#isDownloading ||= from === 'network';
    this.#unreported += bytes;
    const isDue = this.#unreported >= REPORT_BYTES || this.#loadedBytes >= this.#totalBytes;
    if (!this.#isDownloading || !isDue) return;
    this.#unreported = 0;
    this.#onDownload?.({ file, loadedBytes: this.#loadedBytes, totalBytes: this.#totalBytes });
  }

  /** Ends everything that is on its way, and waits until it has ended. */
  async close(): Promise<void> {
    this.#closed.abort(new ArgumentError('The folder is closed.', 'Open it again.'));
    await Promise.allSettled(this.#pending);
    this.#segments.clear();
  }

  async #inSlot<T>(body: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#parallel) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      this.signal.throwIfAborted();
      return await body();
    } finally {
      // The place is handed on, so that nobody gets in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  async #keep(key: string, entry: { readonly bytes: Promise<Uint8Array>; settled: boolean }): Promise<void> {
    try {
      await entry.bytes;
      entry.settled = true;
      this.#forgetOldest();
    } catch {
      // A failure is not kept: the next call may have better luck.
      this.#segments.delete(key);
    }
  }

  #forgetOldest(): void {
    const settled = [...this.#segments].filter(([, entry]) => entry.settled);
    for (const [key] of settled.slice(0, Math.max(0, settled.length - KEPT_SEGMENTS))) this.#segments.delete(key);
  }
}

/** Rejects with the signal's reason as soon as it aborts, whatever `promise` does. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  // One for each call: many listeners of one signal look like a leak to Node, which warns.
  const own = AbortSignal.any([signal]);
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = (): void => reject(own.reason);
    if (own.aborted) stop();
    else own.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    own.removeEventListener('abort', stop);
  }
}
