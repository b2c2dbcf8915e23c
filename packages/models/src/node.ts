import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { requestDevice } from '@mambalab/kernels/node';
import { grammarEngine } from './generation/grammar_engine_node.ts';
import type { Model } from './generation/model.ts';
import type { ModelSource as AnySource } from './index.ts';
import { openFolder as openAnyFolder } from './index.ts';
import type { LoadOptions } from './load_model.ts';
import { loadFrom } from './load_model.ts';
import type { Cache } from './weights/cache.ts';
import type { Hash } from './weights/content_hash.ts';
import { ggufFolder, isGgufName } from './weights/gguf.ts';
import { isHubId, openHubFolder } from './weights/hub_folder.ts';
import { openNodeCache } from './weights/node_cache.ts';
import { openNodeFolder } from './weights/node_folder.ts';
import { openAddress } from './weights/open_address.ts';
import type { Folder } from './weights/source.ts';
import type { OpenOptions, RemotePlatform } from './weights/source_options.ts';
import { remoteOptions } from './weights/source_options.ts';
import type { StoredFile } from './weights/stored_files.ts';
import { clearStored, listStored } from './weights/stored_files.ts';

export * from './surface.ts';

/**
 * Where a model comes from: a path or URL of a folder or `.gguf` file, the id of a model on the Hugging Face hub
 * (`org/name`), files, or an entry of `@mambalab/checkpoints`. What exists as a path is never taken for an id.
 */
export type ModelSource = AnySource;

const PLATFORM: RemotePlatform = {
  findCache: () => Promise.resolve(openNodeCache()),
  openCache: () => Promise.resolve(openNodeCache()),
  createHash: nativeHash,
  redirects: 'manual',
};

/**
 * Loads a language model onto the GPU; as in browsers, and folders and `.gguf` files may also be given by path. The
 * environment variables `HF_ENDPOINT` and `HF_TOKEN` stand for the options `endpoint` and `token`, and `MAMBALAB_CACHE`
 * names the folder of the cache.
 */
export function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return loadFrom({ openFolder, requestDevice: () => requestDevice(), openCache, grammarEngine }, source, options);
}

/** Opens a source in Node: a text that is no http(s) or file URL is a path, or where there is none of that name, an id. */
export async function openFolder(source: ModelSource, options: OpenOptions = {}): Promise<Folder> {
  const address = typeof source === 'object' && 'url' in source ? source.url : source;
  if (typeof address !== 'string' && !(address instanceof URL)) return await openAnyFolder(address);
  const text = String(address);
  if (/^https?:/.test(text)) return openAddress(new URL(text), await remoteOptions(options, PLATFORM));
  if (isHubId(text) && !isGgufName(text) && !(await exists(text))) {
    const { HF_ENDPOINT: endpoint, HF_TOKEN: token } = process.env;
    const environment = { ...(endpoint && { endpoint }), ...(token && { token }) };
    const remote = await remoteOptions({ ...environment, ...options }, PLATFORM);
    return openHubFolder(text, { ...remote, note: 'there is no folder of that name either' });
  }
  const path = text.startsWith('file:') ? fileURLToPath(text) : text;
  return isGgufName(path)
    ? ggufFolder(await openNodeFolder(dirname(path)), basename(path))
    : await openNodeFolder(path);
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

function nativeHash(): Hash {
  const hash = createHash('sha256');
  return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest('hex') };
}

/**
 * A cache in a folder.
 *
 * @param folder when absent, `MAMBALAB_CACHE`, or what the platform has for caches: `$XDG_CACHE_HOME/mambalab` or
 *   `~/.cache/mambalab`, `~/Library/Caches/mambalab` on macOS, `%LOCALAPPDATA%\mambalab` on Windows
 */
export function openCache(folder?: string): Promise<Cache> {
  return Promise.resolve(openNodeCache(folder));
}

/** What a cache holds, the platform's when absent. */
export async function listCache(cache: Cache = openNodeCache()): Promise<StoredFile[]> {
  return await listStored(cache);
}

/** Removes the files of one source, or all, from a cache, the platform's when absent. Returns what was removed. */
export async function clearCache(
  options: { readonly source?: string; readonly cache?: Cache } = {},
): Promise<StoredFile[]> {
  return await clearStored(options.cache ?? openNodeCache(), options.source);
}
