/** Bytes `[start, end)` of a value. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A value of a cache, without its bytes. */
export interface CacheValue {
  readonly key: string;
  readonly byteLength: number;
}

/**
 * A place that keeps downloads, and weights as they lie on the GPU: values of at most 8 MiB under keys of lower-case letters, digits, `-` and `/`.
 *
 * Parts of files are stored under keys made from the hash or ETag of their file, so that a value never changes once it
 * is there. Loaders in several tabs or processes may use one cache at the same time; all that they need is that `put`
 * is atomic.
 */
export interface Cache {
  /**
   * A value, or a range of its bytes; undefined where there is none, or it ends before the range does.
   * The caller may keep and change the bytes.
   */
  get(key: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /**
   * Fills `target` with the first bytes of a value. False where there is none, or it has fewer. Without it, every value
   * is read into memory of its own.
   */
  fill?(key: string, target: Uint8Array, signal?: AbortSignal): Promise<boolean>;
  /**
   * Stores a value of at least one byte, in place of an earlier one. Whoever reads at the same time sees all of it or
   * nothing, also if this is aborted or fails.
   *
   * @throws StorageQuotaError, or the platform's own error (`QuotaExceededError`, `ENOSPC`), where there is no room
   */
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Keys that begin with `prefix` (all when absent) and the sizes of their values. */
  list(prefix?: string): Promise<readonly CacheValue[]>;
  /** Forgets a value. There need not be one. */
  delete(key: string): Promise<void>;
  /**
   * Runs `body` while no other loader, in this tab or another, runs one for the same key. Without it, two loaders at
   * the same time may fetch the same bytes twice.
   */
  exclusive?<T>(key: string, body: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Bytes that can still be stored, where the place can tell. */
  room?(): Promise<number | undefined>;
}
