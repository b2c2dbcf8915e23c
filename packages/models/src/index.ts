import { ArgumentError, requestDevice } from '@mambalab/kernels';
import type { Model } from './generation/model.ts';
import type { CheckpointEntry, LoadOptions } from './load_model.ts';
import { loadFrom } from './load_model.ts';
import { openBrowserFolder } from './weights/browser_folder.ts';
import { ggufFolder, isGgufName } from './weights/gguf.ts';
import { openHttpFolder } from './weights/http_folder.ts';
import type { Folder } from './weights/source.ts';

export * from './surface.ts';

/**
 * Where a model comes from: a URL of a folder or of a `.gguf` file, files that a user chose, or an entry of
 * `@mambalab/checkpoints`.
 */
export type ModelSource =
  string | URL | CheckpointEntry | File | FileList | readonly File[] | FileSystemDirectoryHandle;

/**
 * Loads a language model onto the GPU.
 *
 * @throws WebGPUUnavailableError without WebGPU or an adapter; UnsupportedModelError for a family or feature that is
 *   not computed here; WeightFormatError for files that are damaged or do not fit the configuration; IntegrityError for
 *   weights that are not numbers; OutOfMemoryError if the device has too little memory; `signal.reason` when aborted
 */
export function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return loadFrom({ openFolder: (given) => Promise.resolve(openFolder(given)), requestDevice }, source, options);
}

/** Opens a source in any environment. @throws ArgumentError for a text that is no URL */
export function openFolder(source: ModelSource): Folder {
  if (typeof source === 'string' || source instanceof URL) {
    const base = typeof document === 'undefined' ? undefined : document.baseURI;
    if (!URL.canParse(source, base)) {
      throw new ArgumentError(
        `'${String(source)}' is no URL.`,
        'Give the http(s) address of a folder with config.json or of a .gguf file, files that the user chose, or an entry of @mambalab/checkpoints.',
      );
    }
    return openAddress(new URL(source, base));
  }
  if (isEntry(source)) return openHttpFolder(source.url);
  return openBrowserFolder(source);
}

function openAddress(url: URL): Folder {
  if (!isGgufName(url.pathname)) return openHttpFolder(url);
  const slash = url.pathname.lastIndexOf('/');
  const folder = new URL(url);
  folder.pathname = url.pathname.slice(0, slash + 1);
  return ggufFolder(openHttpFolder(folder), decodeURIComponent(url.pathname.slice(slash + 1)));
}

function isEntry(source: ModelSource): source is CheckpointEntry {
  return typeof source === 'object' && 'url' in source;
}
