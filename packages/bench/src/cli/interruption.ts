/**
 * Runs until `body` ends, or until Ctrl-C aborts its signal; a second Ctrl-C ends the process.
 *
 * @returns whether it ended by itself
 */
export async function untilInterrupted(body: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
  const abort = new AbortController();
  const listener = (): void => abort.abort(new Error('Interrupted.'));
  process.once('SIGINT', listener);
  try {
    await body(abort.signal);
    return true;
  } catch (error) {
    if (abort.signal.aborted && error === abort.signal.reason) return false;
    throw error;
  } finally {
    process.off('SIGINT', listener);
  }
}

/** One line that rewrites itself on a terminal; nothing elsewhere, where it would fill a log. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
