import { ggufFolder, isGgufName } from './gguf.ts';
import { openHttpFolder } from './http_folder.ts';
import type { RemoteOptions } from './remote_folder.ts';
import type { Folder } from './source.ts';

/** Opens the http(s) address of a folder, or of a `.gguf` file in one. @throws ArgumentError for another protocol */
export function openAddress(url: URL, options: RemoteOptions): Folder {
  if (!isGgufName(url.pathname)) return openHttpFolder(url, options);
  const slash = url.pathname.lastIndexOf('/');
  const folder = new URL(url);
  folder.pathname = url.pathname.slice(0, slash + 1);
  return ggufFolder(openHttpFolder(folder, options), decodeURIComponent(url.pathname.slice(slash + 1)));
}
