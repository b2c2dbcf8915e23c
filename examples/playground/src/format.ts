const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

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

/** `12.3 tokens/s`, or a dash while there is nothing to divide. */
export function formatRate(perSecond: number): string {
  return Number.isFinite(perSecond) && perSecond > 0 ? `${perSecond.toFixed(1)} tokens/s` : '–';
}

/** `84 ms`, `1.25 s`, on one line. */
export function formatTime(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toFixed(0)}\u00a0ms` : `${(milliseconds / 1000).toFixed(2)}\u00a0s`;
}
