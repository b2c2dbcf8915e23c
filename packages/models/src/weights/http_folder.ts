import { ArgumentError } from '@mambalab/kernels';
import { RemoteFolder } from './remote_folder.ts';
import type { RemoteOptions } from './remote_folder.ts';
import type { Folder } from './source.ts';

/**
 * A folder behind HTTP, read with Range requests; a server without them is read from front to back.
 *
 * @param url the folder's address; file names are appended to its path and its query is kept
 * @throws ArgumentError if `url` is no http(s) address. Reading: ArgumentError if the server refuses; NetworkError if it
 * cannot be reached or fails, also after retries; WeightFormatError if it sends other ranges than asked for, or tells
 * no size; IntegrityError if a file changed between two reads; StorageQuotaError if the cache is full;
 * `signal.reason` if aborted.
 */
export function openHttpFolder(url: string | URL, options: RemoteOptions = {}): Folder {
  const base = parseFolderUrl(url);
  const label = base.origin + base.pathname;
  const place = {
    label,
    source: label,
    http: { ...options, bypassHttpCache: options.cache !== undefined },
    locate: (name: string) => {
      const address = new URL(base);
      address.pathname += encodePath(name);
      return Promise.resolve({ url: address, identity: address.href, fixed: false });
    },
  };
  return new RemoteFolder(place, options);
}

/** @throws ArgumentError if it is no http(s) address */
export function parseFolderUrl(url: string | URL): URL {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined || !/^https?:$/.test(base.protocol)) {
    throw new ArgumentError(`'${String(url)}' is not an http(s) address.`, 'Give the address of a checkpoint folder.');
  }
  base.hash = '';
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}

/** A file name as a part of a path. */
export const encodePath = (name: string): string => name.split('/').map(encodeURIComponent).join('/');
