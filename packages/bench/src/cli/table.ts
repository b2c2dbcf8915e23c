/** A column of a table: numbers stand to the right. */
export interface Column {
  readonly title: string;
  readonly width: number;
  readonly align?: 'left' | 'right';
}

/** One line of a table. The last column is not padded, and cells that are too wide push the others on. */
export function formatRow(columns: readonly Column[], cells: readonly string[]): string {
  const padded = columns.map(({ width, align }, index) => {
    const cell = cells[index] ?? '';
    return align === 'right' ? cell.padStart(width) : cell.padEnd(width);
  });
  return padded.join('  ').trimEnd();
}

/** The titles and a rule below them. */
export function formatHeader(columns: readonly Column[]): string {
  const titles = formatRow(
    columns,
    columns.map(({ title }) => title),
  );
  return `${titles}\n${columns.map(({ width }) => '-'.repeat(width)).join('  ')}`;
}

/** Three significant digits, without exponents: 0.00123, 1.23, 123, 12345. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}

/** `12.3 %` */
export function formatPercent(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(1)} %` : '-';
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.50 GiB` */
export function formatBytes(bytes: number): string {
  const unit = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${formatNumber(bytes / 2 ** (10 * unit))} ${UNITS[unit] ?? ''}`;
}

/** The choices of the shaders of a case, in short: `subgroups`, or `tile16 f16` for several axes. */
export function formatChoices(dispatches: readonly { readonly choices: Readonly<Record<string, string>> }[]): string {
  return [...new Set(dispatches.flatMap(({ choices }) => Object.values(choices)))].join(' ');
}
