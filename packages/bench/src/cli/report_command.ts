import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { prefixOf, reportHtml } from '../report/html.ts';
import { svgFiles } from '../report/svg_files.ts';
import { UsageError } from './kernels_command.ts';
import { readReport } from './read_report.ts';

export interface ReportCommandOptions {
  readonly out: string;
  readonly title: string;
  readonly svg?: string;
}

/** `mambalab-bench report`: one page of any number of result files. */
export function writeReportPage(files: readonly string[], { out, title, svg }: ReportCommandOptions): void {
  const reports = files.map((file) => ({ name: basename(file, '.json'), report: readReport(file) }));
  writeFileSync(out, reportHtml(reports, pageScript(), title));
  console.log(`written: ${out}`);
  if (svg === undefined) return;
  mkdirSync(svg, { recursive: true });
  for (const [index, { report }] of reports.entries()) {
    for (const { name, svg: text } of svgFiles(report, prefixOf(report, index))) {
      const file = join(svg, `${name}.svg`);
      writeFileSync(file, `${text}\n`);
      console.log(`written: ${file}`);
    }
  }
}

/** The bundled program of the page, which the build puts beside this one. */
function pageScript(): string {
  const address = new URL('report_page.js', import.meta.url);
  try {
    return readFileSync(address, 'utf8');
  } catch (cause) {
    throw new UsageError('report_page.js is missing beside this program: run it from the whole package.', { cause });
  }
}
