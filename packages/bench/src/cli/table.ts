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
