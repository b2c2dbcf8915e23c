import { StorageQuotaError } from '@mambalab/kernels';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { ByteRange, Cache } from './cache.ts';
import type { FileFacts } from './http_headers.ts';

/** Files are fetched and stored in segments of this many bytes; the last one is shorter. */
export const SEGMENT_BYTES: number = 8 * 2 ** 20;

/** Prefix of the keys under which files are stored: `files/CONTENT/SEGMENT`, and beside the segments `about` and `whole`. */
export const FILES = 'files/';
/** Prefix of the keys under which stands what was found at an address. */
export const ADDRESSES = 'addresses/';

/** The names of segments: their numbers. */
export const SEGMENT_NAME: RegExp = /^\d{6,}$/;

/** What is stored about a file beside its segments. */
export interface StoredAbout {
  /** The hub id, or the address of the folder. */
  readonly source: string;
  /** Its name there. */
  readonly file: string;
  readonly size: number;
}

/** What was found at an address the last time. */
export interface StoredAddress {
  readonly source: string;
  readonly facts?: FileFacts;
  readonly commit?: string;
}

/**
 * The key for the content of a file: its SHA-256 where that is known, otherwise its ETag, which means something only
 * for one address. Undefined if the server names neither.
 */
export function contentKey(facts: FileFacts, address: string): string | undefined {
  if (facts.sha256 !== undefined) return `sha256-${facts.sha256}`;
  return facts.etag === undefined ? undefined : `etag-${hexHash(`${address}\n${facts.etag}\n${facts.size}`)}`;
}

/** One file in a cache, there in part, whole, or not at all. */
export class CachedFile {
  readonly #cache: Cache;
  readonly #prefix: string;
  readonly #about: StoredAbout;
  #described: Promise<void> | undefined;

  constructor(cache: Cache, key: string, about: StoredAbout) {
    this.#cache = cache;
    this.#prefix = `${FILES}${key}/`;
    this.#about = about;
  }

  /** Whether all segments were stored and the whole was checked. */
  async isWhole(): Promise<boolean> {
    return (await this.#cache.get(`${this.#prefix}whole`)) !== undefined;
  }

  /** The segments that are here. */
  async held(): Promise<Set<number>> {
    const values = await this.#cache.list(this.#prefix);
    const held = new Set<number>();
    for (const { key, byteLength } of values) {
      const name = key.slice(this.#prefix.length);
      const index = SEGMENT_NAME.test(name) ? Number(name) : -1;
      if (index >= 0 && byteLength === this.#length(index)) held.add(index);
    }
    return held;
  }

  /** A segment, or undefined where it is not here in its full length. */
  async get(index: number, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const bytes = await this.#cache.get(this.#key(index), undefined, signal);
    return bytes?.byteLength === this.#length(index) ? bytes : undefined;
  }

  /** Bytes `[start, end)` of the file, or undefined if some of them are not here. */
  async read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const first = Math.floor(start / SEGMENT_BYTES);
    const last = Math.floor((end - 1) / SEGMENT_BYTES);
    const part = (index: number): Promise<Uint8Array | undefined> => {
      const base = index * SEGMENT_BYTES;
      const range: ByteRange = { start: Math.max(start - base, 0), end: Math.min(end - base, this.#length(index)) };
      return this.#cache.get(this.#key(index), range, signal);
    };
    if (first === last) return await part(first);
    const bytes = new Uint8Array(end - start);
    for (let index = first; index <= last; index++) {
      const found = await part(index);
      if (found === undefined) return undefined;
      bytes.set(found, Math.max(index * SEGMENT_BYTES - start, 0));
    }
    return bytes;
  }

  /**
   * Stores a segment.
   *
   * @throws StorageQuotaError if there is no room
   */
  async put(index: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#describe();
    await withQuota(this.#about, this.#cache.put(this.#key(index), bytes, signal));
  }

  /** Runs `body` alone for a segment, where the cache can see to that. */
  async exclusive<T>(index: number, body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#cache.exclusive === undefined
      ? await body()
      : await this.#cache.exclusive(this.#key(index), body, signal);
  }

  /** Notes that every segment is here and right. */
  async complete(checked: 'sha256' | 'size'): Promise<void> {
    await this.#describe();
    await this.#put('whole', { checked });
  }

  /** Forgets the file. */
  async clear(): Promise<void> {
    await removeContent(this.#cache, this.#prefix);
    this.#described = undefined;
  }

  /** Before its segments, so that what is stored can always be told apart. */
  async #describe(): Promise<void> {
    this.#described ??= this.#put('about', this.#about);
    await this.#described;
  }

  async #put(name: string, value: unknown): Promise<void> {
    await withQuota(this.#about, this.#cache.put(this.#prefix + name, utf8ToBytes(JSON.stringify(value))));
  }

  #key(index: number): string {
    return this.#prefix + String(index).padStart(6, '0');
  }

  #length(index: number): number {
    return Math.min(SEGMENT_BYTES, this.#about.size - index * SEGMENT_BYTES);
  }
}

/** Removes what is stored of a file under a prefix. */
export async function removeContent(cache: Cache, prefix: string): Promise<void> {
  // The mark first: what is left of an interrupted removal must not pass for a whole file.
  await cache.delete(`${prefix}whole`);
  for (const { key } of await cache.list(prefix)) await cache.delete(key);
}

/** What was found at `address` the last time. */
export async function recall(cache: Cache, address: string): Promise<StoredAddress | undefined> {
  const bytes = await cache.get(addressKey(address));
  const stored = bytes === undefined ? undefined : parseStored(bytes);
  return isStoredAddress(stored) ? stored : undefined;
}

function isStoredAddress(value: unknown): value is StoredAddress {
  if (typeof value !== 'object' || value === null) return false;
  const { source, facts, commit }: Partial<Record<keyof StoredAddress, unknown>> = value;
  const {
    size,
    etag = '',
    sha256: hash = '',
  }: Partial<Record<keyof FileFacts, unknown>> = Object(facts ?? { size: 0 });
  const texts = [source, commit ?? '', etag, hash].every((text) => typeof text === 'string');
  return texts && Number.isSafeInteger(size);
}

/** Notes what was found at `address`. */
export async function remember(cache: Cache, address: string, found: StoredAddress): Promise<void> {
  const key = addressKey(address);
  const text = JSON.stringify(found);
  const known = await cache.get(key);
  if (known !== undefined && new TextDecoder().decode(known) === text) return;
  const about = { source: found.source, file: address, size: text.length };
  await withQuota(about, cache.put(key, utf8ToBytes(text)));
}

/** A small stored object; undefined if it is damaged. */
export function parseStored(bytes: Uint8Array): object | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What clears space, for hints. */
export const CLEAR_HINT =
  'clear old models (`clearCache`, or `mambalab cache clear` in Node), or load with `cache: false`';

async function withQuota({ source, file, size }: StoredAbout, storing: Promise<void>): Promise<void> {
  try {
    await storing;
  } catch (cause) {
    if (!isQuotaError(cause)) throw cause;
    throw new StorageQuotaError(
      `The cache has no room for ${file} of ${source}, which takes ${size} bytes.`,
      `Make room for at least ${size} bytes: ${CLEAR_HINT}.`,
      { cause },
    );
  }
}

/** Whether a cache refused for want of room. */
export function isQuotaError(error: unknown): boolean {
  if (error instanceof StorageQuotaError) return true;
  if (typeof error !== 'object' || error === null) return false;
  const name = 'name' in error ? error.name : undefined;
  const code = 'code' in error ? error.code : undefined;
  return name === 'QuotaExceededError' || code === 'ENOSPC' || code === 'EDQUOT';
}

const addressKey = (address: string): string => ADDRESSES + hexHash(address);

/** SHA-256 of a text, in hexadecimal digits. */
export const hexHash = (text: string): string => bytesToHex(sha256(utf8ToBytes(text)));
