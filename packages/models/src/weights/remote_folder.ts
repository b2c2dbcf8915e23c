import { IntegrityError, NetworkError, StorageQuotaError, WeightFormatError } from '@mambalab/kernels';
import type { Cache } from './cache.ts';
import { CachedFile, CLEAR_HINT, contentKey, recall, remember } from './cached_file.ts';
import type { StoredAddress } from './cached_file.ts';
import type { Hash } from './content_hash.ts';
import { createHash } from './content_hash.ts';
import { isPlainFileName } from './folder.ts';
import { HttpFile } from './http_file.ts';
import type { HttpFileOptions, OpenedFile } from './http_file.ts';
import type { FileFacts } from './http_headers.ts';
import type { HttpOptions } from './http_request.ts';
import type { Folder, KeptIn } from './source.ts';
import { StreamedFile } from './streamed_file.ts';
import type { DownloadProgress } from './traffic.ts';
import { Traffic } from './traffic.ts';

/** How a folder behind HTTP is read. */
export interface RemoteOptions extends Omit<HttpOptions, 'bypassHttpCache'> {
  /** Most requests at a time. Default 4. */
  readonly parallel?: number;
  /** Keeps what is downloaded. */
  readonly cache?: Cache | undefined;
  /** Default: SHA-256 in JavaScript. */
  readonly createHash?: () => Hash;
  /** Called while bytes arrive, once reading in earnest has begun. */
  readonly onDownload?: ((progress: DownloadProgress) => void) | undefined;
}

/** Where a file of a folder is. */
export interface Located {
  readonly url: URL;
  /** Names the file in caches, whatever version of it the address leads to. */
  readonly identity: string;
  /** The content behind the address never changes. */
  readonly fixed: boolean;
  /** The commit that the server must name, if it names one. */
  readonly commit?: string;
  /** What the way there brought already. */
  readonly opened?: OpenedFile;
}

/** What makes one folder behind HTTP differ from another. */
export interface RemotePlace {
  /** For messages. */
  readonly label: string;
  /** For lists of what is stored. */
  readonly source: string;
  readonly http: HttpFileOptions;
  locate(name: string, signal: AbortSignal): Promise<Located>;
}

/** The folder at a place: files are read by ranges, in segments once streaming has begun, and kept in a cache. */
export class RemoteFolder implements Folder {
  readonly label: string;
  readonly #place: RemotePlace;
  readonly #options: RemoteOptions;
  readonly #traffic: Traffic;
  readonly #files = new Map<string, Promise<StreamedFile | undefined>>();

  constructor(place: RemotePlace, options: RemoteOptions) {
    this.label = place.label;
    this.#place = place;
    this.#options = options;
    this.#traffic = new Traffic(options.parallel, options.onDownload);
  }

  file(name: string, signal?: AbortSignal): Promise<StreamedFile | undefined> {
    if (!isPlainFileName(name)) return Promise.resolve(undefined);
    let file = this.#files.get(name);
    if (file === undefined) {
      const ends = signal === undefined ? this.#traffic.signal : AbortSignal.any([this.#traffic.signal, signal]);
      file = this.#traffic.track(this.#open(name, ends));
      this.#files.set(name, file);
      // A failure is not kept: the next call may have better luck, or another signal.
      file.catch(() => this.#files.delete(name));
    }
    return file;
  }

  async readText(name: string, signal?: AbortSignal): Promise<string | undefined> {
    const file = await this.file(name, signal);
    return file === undefined ? undefined : new TextDecoder().decode(await this.#traffic.track(file.readAll(signal)));
  }

  get kept(): KeptIn | undefined {
    const { cache } = this.#options;
    return cache === undefined ? undefined : { cache, source: this.#place.source };
  }

  /** @throws StorageQuotaError if the cache has less room than the files need */
  async beginStreaming(signal?: AbortSignal): Promise<number> {
    const files = await this.#opened();
    const sizes = await Promise.all(files.map((file) => file.size()));
    const missing = await Promise.all(files.map((file) => file.countHeld()));
    const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
    const needed = sum(missing);
    const room = needed === 0 ? undefined : await this.#options.cache?.room?.();
    signal?.throwIfAborted();
    if (room !== undefined && room < needed) {
      throw new StorageQuotaError(
        `The cache has room for ${room} bytes; ${this.label} needs ${needed}.`,
        `Make room for ${needed - room} bytes: ${CLEAR_HINT}.`,
      );
    }
    this.#traffic.beginStreaming(sum(sizes));
    return needed;
  }

  async endStreaming(signal?: AbortSignal): Promise<void> {
    for (const file of await this.#opened()) await this.#traffic.track(file.complete(signal));
  }

  async dispose(): Promise<void> {
    this.#files.clear();
    await this.#traffic.close();
  }

  async #opened(): Promise<StreamedFile[]> {
    const files = await Promise.all(this.#files.values());
    return files.filter((file) => file !== undefined);
  }

  async #open(name: string, signal: AbortSignal): Promise<StreamedFile | undefined> {
    const located = await this.#place.locate(name, signal);
    const { cache } = this.#options;
    const known = cache === undefined ? undefined : await recall(cache, located.url.href);
    // What never changes need not be asked for.
    if (located.fixed && known !== undefined) return this.#fromRecord(name, located, known, signal);
    let opened: OpenedFile;
    try {
      opened = located.opened ?? (await HttpFile.open(name, located.url, this.#place.http, signal));
    } catch (error) {
      const usable = error instanceof NetworkError && known !== undefined;
      const file = usable ? this.#fromRecord(name, located, known, signal) : undefined;
      // Without the server, what was found the last time serves if nothing of it is missing.
      if (usable && (file === undefined || (await file.isWhole()))) return file;
      throw error;
    }
    const { file, commit } = opened;
    if (located.commit !== undefined && commit !== undefined && commit !== located.commit) {
      throw new IntegrityError(
        `${name} of ${this.label} is of commit ${commit}; the other files are of ${located.commit}.`,
        'Load the model again, or name the commit as its `revision`.',
      );
    }
    if (cache !== undefined) {
      await remember(cache, located.url.href, {
        source: this.#place.source,
        ...(file !== undefined && { facts: file.facts }),
        ...(commit !== undefined && { commit }),
      });
    }
    return file === undefined ? undefined : this.#streamed(name, located, file.facts, signal, file);
  }

  #fromRecord(name: string, located: Located, { facts }: StoredAddress, signal: AbortSignal): StreamedFile | undefined {
    return facts === undefined ? undefined : this.#streamed(name, located, facts, signal);
  }

  #streamed(name: string, located: Located, facts: FileFacts, signal: AbortSignal, origin?: HttpFile): StreamedFile {
    const { cache } = this.#options;
    const key = contentKey(facts, located.identity);
    const about = { source: this.#place.source, file: name, size: facts.size };
    return new StreamedFile({
      name,
      facts,
      content: key,
      traffic: this.#traffic,
      origin,
      openOrigin: () => this.#reopen(name, located.url, facts, signal),
      stored: cache === undefined || key === undefined ? undefined : new CachedFile(cache, key, about),
      createHash: this.#options.createHash ?? createHash,
    });
  }

  /** For a file that is known from the cache, when something of it is missing there. */
  async #reopen(name: string, url: URL, facts: FileFacts, signal: AbortSignal): Promise<HttpFile> {
    const { file } = await HttpFile.open(name, url, this.#place.http, signal);
    if (file === undefined) {
      throw new WeightFormatError(`${name} is no longer at ${this.label}.`, 'Load another revision of the model.');
    }
    const same = file.facts.size === facts.size && file.facts.etag === facts.etag;
    if (same) return file;
    throw new IntegrityError(
      `${name} of ${this.label} is not what the cache holds a part of.`,
      `Load the model anew: ${CLEAR_HINT}.`,
    );
  }
}
