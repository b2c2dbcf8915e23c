import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { requestDevice } from '@mambalab/kernels/node';
import type { Model } from './generation/model.ts';
import type { ModelSource as AnySource } from './index.ts';
import { openFolder as openAnyFolder } from './index.ts';
import type { LoadOptions } from './load_model.ts';
import { loadFrom } from './load_model.ts';
import { ggufFolder, isGgufName } from './weights/gguf.ts';
import { openNodeFolder } from './weights/node_folder.ts';
import type { Folder } from './weights/source.ts';

export * from './surface.ts';

/** Where a model comes from: a path or URL of a folder or `.gguf` file, files, or an entry of `@mambalab/checkpoints`. */
export type ModelSource = AnySource;

/** Loads a language model onto the GPU; as in browsers, and folders and `.gguf` files may also be given by path. */
export function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return loadFrom({ openFolder, requestDevice: () => requestDevice() }, source, options);
}

/** Opens a source in Node: texts that are no http(s) or file URL are paths. */
export async function openFolder(source: ModelSource): Promise<Folder> {
  const address = typeof source === 'object' && 'url' in source ? source.url : source;
  if (typeof address !== 'string' && !(address instanceof URL)) return openAnyFolder(address);
  const text = String(address);
  if (/^https?:/.test(text)) return openAnyFolder(text);
  const path = text.startsWith('file:') ? fileURLToPath(text) : text;
  return isGgufName(path)
    ? ggufFolder(await openNodeFolder(dirname(path)), basename(path))
    : await openNodeFolder(path);
}
