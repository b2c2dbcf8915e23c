import type { LanguageModel } from '../language_model.ts';
import { ModelHost } from './model_host.ts';
import type { TakeModel } from './model_host.ts';
import type { ModelLoader, Recoverable } from './model_shelf.ts';
import { ModelShelf } from './model_shelf.ts';
import { CONNECT } from './protocol.ts';

/** A model, or what loads the one that a page asks for, such as `loadModel`. */
export type ServedSource = (LanguageModel & Recoverable) | Promise<LanguageModel & Recoverable> | ModelLoader;

/** What workers of all kinds are: where messages of pages, and in shared workers pages themselves, come. */
type Scope = Pick<EventTarget, 'addEventListener'>;

/**
 * Answers the pages of a worker: call it once in a dedicated, shared or service worker. Pages get their model with
 * `createWorkerModel`; those that ask for the same source with the same options share one, which is disposed of when the
 * last of them is done with it, or gone. A model that is given stays the caller's.
 *
 * @param scope the worker's own when absent
 */
export function serveModel(source: ServedSource, scope: Scope = globalThis): void {
  const take = takerOf(source);
  const accept = (event: Event): void => {
    const { data, ports } = event as MessageEvent;
    const [port] = ports;
    if (data !== CONNECT || port === undefined) return;
    const ended = new Promise<void>((resolve) => {
      port.addEventListener('close', () => resolve());
    });
    const host = new ModelHost(port, take);
    // A service worker lives for as long as its events do, and its browser allows.
    if ('waitUntil' in event && typeof event.waitUntil === 'function') event.waitUntil(ended.then(() => host.end()));
  };
  scope.addEventListener('message', accept);
  scope.addEventListener('connect', (event) => {
    const [port] = (event as MessageEvent).ports;
    port?.addEventListener('message', accept);
    port?.start();
  });
}

/** Answers one page over a port, for those who hand out ports themselves. */
export function servePort(source: ServedSource, port: MessagePort): void {
  new ModelHost(port, takerOf(source));
}

function takerOf(source: ServedSource): TakeModel {
  if (typeof source === 'function') {
    const shelf = new ModelShelf(source);
    return (...asked) => shelf.take(...asked);
  }
  return async () => ({ model: await source, release: () => undefined });
}
