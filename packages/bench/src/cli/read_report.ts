import { readFileSync } from 'node:fs';
import type { AnyReport } from '../any_report.ts';
import { parseReport } from '../parse_report.ts';
import { UsageError } from './kernels_command.ts';

/** A result file. @throws UsageError that names the file and what is wrong with it */
export function readReport(file: string): AnyReport {
  try {
    return parseReport(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
