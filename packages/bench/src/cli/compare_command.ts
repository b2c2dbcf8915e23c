import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { Change, Comparison, Verdict } from '../compare/compare.ts';
import { compareReports, DEFAULT_NOISE, isWorse } from '../compare/compare.ts';
import { formatBytes, formatNumber } from '../format.ts';
import { saveReport, UsageError } from './kernels_command.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

interface CompareOptions {
  readonly noise: number;
  readonly all?: boolean;
  readonly failIfSlower?: boolean;
  readonly json?: string;
}

/** The command `compare`. */
export function addCompareCommand(program: Command): void {
  program
    .command('compare')
    .description('two result files of one command: what is faster, slower, or within the noise')
    .argument('<before>', 'result file')
    .argument('<after>', 'result file')
    .option('--noise <percent>', 'smaller changes count for nothing', parsePercent, 100 * DEFAULT_NOISE)
    .option('--all', 'also list what did not change')
    .option('--fail-if-slower', 'exit code 1 if anything is slower or larger')
    .option('--json <file>', 'also write the comparison to a file')
    .action(async (before: string, after: string, options: CompareOptions) => {
      if (!(await compareFiles(before, after, options))) process.exitCode = 1;
    });
}

function parsePercent(text: string): number {
  const value = Number(text);
  if (!(value >= 0)) throw new InvalidArgumentError('A number that is not negative is expected.');
  return value;
}

/** @returns false where it was asked to fail and something is worse */
async function compareFiles(before: string, after: string, options: CompareOptions): Promise<boolean> {
  const comparison = await comparisonOf(before, after, options.noise / 100);
  for (const line of comparisonLines(comparison, options.all === true)) console.log(line);
  saveReport(options.json, comparison);
  return options.failIfSlower !== true || !comparison.changes.some(isWorse);
}

async function comparisonOf(before: string, after: string, noise: number): Promise<Comparison> {
  // What checks results is loaded by the commands that read them only.
  const { readReport } = await import('./read_report.ts');
  const reports = [readReport(before), readReport(after)] as const;
  try {
    return compareReports(...reports, noise);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message);
  }
}

const QUIET: readonly Verdict[] = ['within noise', 'same'];

/** The differing circumstances, a table of changes, and their count. */
export function comparisonLines({ changes, differences }: Comparison, all: boolean): readonly string[] {
  const shown = changes.filter(({ verdict }) => all || !QUIET.includes(verdict));
  const columns: readonly Column[] = [
    { title: 'what', width: Math.max(4, ...shown.map(({ name }) => name.length)) },
    { title: 'before', width: 10, align: 'right' },
    { title: 'after', width: 10, align: 'right' },
    { title: 'change', width: 8, align: 'right' },
    { title: '', width: 12 },
  ];
  const counts = new Map<Verdict, number>();
  for (const { verdict } of changes) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  return [
    ...differences.map((text) => `differs in ${text}`),
    ...(shown.length === 0 ? [] : [formatHeader(columns), ...shown.map((change) => formatRow(columns, cells(change)))]),
    [...counts].map(([verdict, count]) => `${count} ${verdict}`).join(', '),
  ];
}

function cells({ name, unit, before, after, change, verdict }: Change): string[] {
  const amount = (value: number | undefined): string => {
    if (value === undefined) return '-';
    return unit === 'bytes' ? formatBytes(value) : `${formatNumber(value)} ${unit}`;
  };
  const percent = change === undefined ? '-' : `${change > 0 ? '+' : ''}${(100 * change).toFixed(1)} %`;
  return [name, amount(before), amount(after), percent, verdict];
}
