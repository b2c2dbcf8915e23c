import pc from 'picocolors';
import type { LoadProgress } from '../surface.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `11.3 MiB` */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit] ?? ''}`;
}

/** A signal that aborts when the user presses Ctrl-C, until it is disposed. */
export function onInterrupt(): Disposable & { readonly signal: AbortSignal } {
  const abort = new AbortController();
  const listener = (): void => abort.abort(new Error('Interrupted.'));
  process.once('SIGINT', listener);
  return { signal: abort.signal, [Symbol.dispose]: () => process.off('SIGINT', listener) };
}

/** One line that rewrites itself on a terminal; nothing elsewhere, where it would fill a log. */
export function progressReporter(): (progress: LoadProgress) => void {
  let isDownloading = false;
  return ({ phase, loadedBytes, totalBytes, note }) => {
    if (note !== undefined) process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${note}\n`);
    if (!process.stderr.isTTY) return;
    if (phase === 'download') isDownloading = loadedBytes < totalBytes;
    // What arrives is uploaded at once: one count is enough.
    if (phase === 'upload' && isDownloading) return;
    const amount = `${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`;
    const text = { download: `downloading ${amount}`, upload: `loading ${amount}`, compile: '' }[phase];
    process.stderr.write(`\r\x1b[K${pc.dim(text)}`);
  };
}
