/** What shells expect of a process that Ctrl-C ended. */
export const INTERRUPTED = 130;

type Interrupt = Disposable & { readonly signal: AbortSignal };

/**
 * A signal that aborts at the first Ctrl-C, so that a run ends after what is under way and keeps what it has; the exit
 * code is then 130. A second Ctrl-C ends the process at once.
 */
export function onInterrupt(): Interrupt {
  return interrupted(() => {
    console.error('\nstopping after what is under way; Ctrl-C again stops at once');
    process.exitCode = INTERRUPTED;
  });
}

/**
 * Runs until `body` ends, or until Ctrl-C aborts its signal; a second Ctrl-C ends the process.
 *
 * @returns whether it ended by itself
 */
export async function untilInterrupted(body: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
  using interrupt = interrupted(() => undefined);
  try {
    await body(interrupt.signal);
    return true;
  } catch (error) {
    if (interrupt.signal.aborted && error === interrupt.signal.reason) return false;
    throw error;
  }
}

function interrupted(tell: () => void): Interrupt {
  const abort = new AbortController();
  const listener = (): void => {
    if (abort.signal.aborted) process.exit(INTERRUPTED);
    tell();
    abort.abort(new Error('Interrupted.'));
  };
  process.on('SIGINT', listener);
  return { signal: abort.signal, [Symbol.dispose]: () => void process.off('SIGINT', listener) };
}
