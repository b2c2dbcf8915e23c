import { ArgumentError, requestDevice } from '@mambalab/kernels';
import type { Model } from './generation/model.ts';
import type { CheckpointEntry, LoadOptions } from './load_model.ts';
import { loadFrom } from './load_model.ts';
import { findBrowserCache, openBrowserCache } from './weights/browser_cache.ts';
import { openBrowserFolder } from './weights/browser_folder.ts';
import type { Cache } from './weights/cache.ts';
import { openHttpFolder } from './weights/http_folder.ts';
import { isHubId, openHubFolder } from './weights/hub_folder.ts';
import { openAddress } from './weights/open_address.ts';
import type { Folder } from './weights/source.ts';
import type { OpenOptions, RemotePlatform } from './weights/source_options.ts';
import { remoteOptions } from './weights/source_options.ts';
import type { StoredFile } from './weights/stored_files.ts';
import { clearStored, listStored } from './weights/stored_files.ts';

export * from './surface.ts';

/**
 * Where a model comes from: the id of a model on the Hugging Face hub (`org/name`), a URL of a folder or of a `.gguf`
 * file, files that a user chose, or an entry of `@mambalab/checkpoints`. A relative URL of two parts needs a `./` before
 * it, since it would be read as an id.
 */
export type ModelSource =
  string | URL | CheckpointEntry | File | FileList | readonly File[] | FileSystemDirectoryHandle;

const PLATFORM: RemotePlatform = { findCache: findBrowserCache, openCache: openBrowserCache };

/**
 * Loads a language model onto the GPU.
 *
 * @throws WebGPUUnavailableError without WebGPU or an adapter; UnsupportedModelError for a family or feature that is
 *   not computed here; WeightFormatError for files that are damaged or do not fit the configuration; IntegrityError for
 *   weights that are not numbers or not those that the server names; ArgumentError for a model that is not there or not
 *   open to everyone; NetworkError if a server cannot be reached; StorageQuotaError if the cache is full;
 *   OutOfMemoryError if the device has too little memory; `signal.reason` when aborted
 */
export function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return loadFrom({ openFolder, requestDevice, openCache }, source, options);
}

/** Opens a source in any environment. @throws ArgumentError for a text that is neither id nor URL */
export async function openFolder(source: ModelSource, options: OpenOptions = {}): Promise<Folder> {
  if (typeof source === 'string' && isHubId(source)) {
    return openHubFolder(source, await remoteOptions(options, PLATFORM));
  }
  if (typeof source === 'string' || source instanceof URL) {
    const base = typeof document === 'undefined' ? undefined : document.baseURI;
    if (!URL.canParse(source, base)) {
      throw new ArgumentError(
        `'${String(source)}' is neither the id of a model nor a URL.`,
        "Give an id ('org/name'), the http(s) address of a folder with config.json or of a .gguf file, files that the user chose, or an entry of @mambalab/checkpoints.",
      );
    }
    return openAddress(new URL(source, base), await remoteOptions(options, PLATFORM));
  }
  if (isEntry(source)) return openHttpFolder(source.url, await remoteOptions(options, PLATFORM));
  return openBrowserFolder(source);
}

function isEntry(source: ModelSource): source is CheckpointEntry {
  return typeof source === 'object' && 'url' in source;
}

/** The cache that `cache: true` uses. @throws ArgumentError where this page may keep no files */
export function openCache(): Promise<Cache> {
  return openBrowserCache();
}

/** What a cache holds, the platform's when absent. */
export async function listCache(cache?: Cache): Promise<StoredFile[]> {
  return await listStored(cache ?? (await openCache()));
}

/** Removes the files of one source, or all, from a cache, the platform's when absent. Returns what was removed. */
export async function clearCache(
  options: { readonly source?: string; readonly cache?: Cache } = {},
): Promise<StoredFile[]> {
  return await clearStored(options.cache ?? (await openCache()), options.source);
}
