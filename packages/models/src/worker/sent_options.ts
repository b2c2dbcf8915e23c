import { ArgumentError } from '@mambalab/kernels';
import type { LoadOptions } from '../load_model.ts';
import type { TextOptions } from '../language_model.ts';
import { isHubId } from '../weights/hub_folder.ts';
import type { SentOptions } from './protocol.ts';

/** @throws ArgumentError for what cannot be sent to a worker */
export function sentOptions(options: TextOptions): SentOptions {
  const { signal: _signal, session: _session, logitsProcessor, draft, ...others } = options;
  if (logitsProcessor !== undefined)
    refuse('logitsProcessor', 'Use logitBias, or load the model where the function is.');
  if (draft !== undefined && draft !== 'prompt-lookup') {
    refuse('draft', "Give 'prompt-lookup', or load both models where they are used.");
  }
  return { ...others, ...(draft === 'prompt-lookup' && { draft }) };
}

/** @throws ArgumentError for what cannot be sent to a worker */
export function sentLoadOptions(options: LoadOptions): Omit<LoadOptions, 'signal' | 'onProgress' | 'device' | 'cache'> {
  const { signal: _signal, onProgress: _onProgress, device, cache, ...others } = options;
  if (device !== undefined) refuse('device', 'Leave it out: the worker has a device of its own.');
  if (typeof cache === 'object') refuse('cache', 'Give true or false, or make your cache in the worker.');
  const { endpoint } = others;
  return {
    ...others,
    ...(cache !== undefined && { cache }),
    ...(endpoint !== undefined && { endpoint: String(endpoint) }),
  };
}

/** A source as a message: addresses as whole ones, since a worker has another base. */
export function sentSource(source: unknown): unknown {
  if (source instanceof URL) return source.href;
  const base = typeof document === 'undefined' ? undefined : document.baseURI;
  if (typeof source !== 'string' || isHubId(source) || base === undefined || !URL.canParse(source, base)) return source;
  return new URL(source, base).href;
}

function refuse(name: string, hint: string): never {
  throw new ArgumentError(`'${name}' cannot be sent to a worker.`, hint);
}
