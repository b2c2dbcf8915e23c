/** What shells expect of a process that Ctrl-C ended. */
export const INTERRUPTED = 130;

/**
 * A signal that aborts at the first Ctrl-C, so that a run ends after what is under way and keeps what it has; the exit
 * code is then 130. A second Ctrl-C ends the process at once.
 */
export function onInterrupt(): Disposable & { readonly signal: AbortSignal } {
  const abort = new AbortController();
  const listener = (): void => {
    if (abort.signal.aborted) process.exit(INTERRUPTED);
    console.error('\nstopping after what is under way; Ctrl-C again stops at once');
    process.exitCode = INTERRUPTED;
    abort.abort(new Error('Interrupted.'));
  };
  process.on('SIGINT', listener);
  return { signal: abort.signal, [Symbol.dispose]: () => void process.off('SIGINT', listener) };
}
