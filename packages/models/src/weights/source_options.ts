import type { Cache } from './cache.ts';
import type { Hash } from './content_hash.ts';
import type { HubOptions } from './hub_folder.ts';
import type { DownloadProgress } from './traffic.ts';

/** How a source that is not local is found and kept. */
export interface SourceOptions {
  /** Branch, tag or commit of a hub id; `main` when absent. */
  readonly revision?: string;
  /** Opens gated and private models of the hub: sent to the endpoint alone. In Node, `HF_TOKEN` when absent. */
  readonly token?: string;
  /** Address of the hub or a mirror; in Node `HF_ENDPOINT`, and else `https://huggingface.co`, when absent. */
  readonly endpoint?: string | URL;
  /**
   * Where downloads are kept: a cache of your own, or with `true` the platform's (the origin's private file system or
   * Cache API in browsers, a folder in Node). When absent, the platform's where it has one. Local files are never kept.
   */
  readonly cache?: boolean | Cache;
}

/** What opening a source takes beside the options of its user. */
export interface OpenOptions extends SourceOptions {
  readonly onDownload?: (progress: DownloadProgress) => void;
}

/** What a platform brings for sources that are not local. */
export interface RemotePlatform {
  /** The platform's cache; undefined where it has none. */
  findCache(): Promise<Cache | undefined>;
  /** The platform's cache. @throws ArgumentError where it has none */
  openCache(): Promise<Cache>;
  readonly createHash?: () => Hash;
  readonly redirects?: 'follow' | 'manual';
}

/** The options for a folder behind HTTP. */
export async function remoteOptions(options: OpenOptions, platform: RemotePlatform): Promise<HubOptions> {
  const { cache, revision, token, endpoint, onDownload } = options;
  const { createHash, redirects } = platform;
  return {
    cache: await chooseCache(cache, platform),
    revision,
    token,
    endpoint,
    onDownload,
    ...(createHash !== undefined && { createHash }),
    ...(redirects !== undefined && { redirects }),
  };
}

async function chooseCache(asked: boolean | Cache | undefined, platform: RemotePlatform): Promise<Cache | undefined> {
  if (typeof asked === 'object') return asked;
  if (asked === true) return await platform.openCache();
  return asked === undefined ? await platform.findCache() : undefined;
}
