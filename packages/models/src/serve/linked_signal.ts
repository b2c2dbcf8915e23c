/**
 * A signal that aborts with the first of several, until it is let go of. `AbortSignal.any` would do the same, but what
 * it makes of a signal that lives as long as the server stays with that signal in Node 20.
 */
export function linkSignals(signals: readonly AbortSignal[]): { readonly signal: AbortSignal; release(): void } {
  const abort = new AbortController();
  const listeners = signals.map((source) => ({ source, listener: (): void => abort.abort(source.reason) }));
  for (const { source, listener } of listeners) {
    if (source.aborted) listener();
    else source.addEventListener('abort', listener, { once: true });
  }
  return {
    signal: abort.signal,
    release: () => {
      for (const { source, listener } of listeners) source.removeEventListener('abort', listener);
    },
  };
}
