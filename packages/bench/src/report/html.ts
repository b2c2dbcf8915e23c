import type { AnyReport } from '../any_report.ts';
import { isContextReport, isPeersReport } from '../any_report.ts';
import { environmentLines } from '../format.ts';
import type { Ceilings } from '../results.ts';
import { chartsOf } from './charts.ts';
import { STYLE } from './style.ts';
import type { Table } from './tables.ts';
import { tablesOf } from './tables.ts';

/** A report and where it came from. */
export interface NamedReport {
  readonly name: string;
  readonly report: AnyReport;
}

/** What the page's program finds beside the tables. */
export interface PageData {
  readonly reports: readonly NamedReport[];
}

export const DATA_ID = 'results';

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 14h3V9H2zM6.5 14h3V5h-3zM11 14h3V2h-3z' fill='%230f766e'/%3E%3C/svg%3E";

/**
 * One page that needs nothing else: results, tables, and the program that draws the charts.
 *
 * @param script text of the program of `page.ts`, bundled
 */
export function reportHtml(reports: readonly NamedReport[], script: string, title = 'mambalab bench'): string {
  const data: PageData = { reports };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="${ICON}">
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
${reports.length > 1 ? navigation(reports) : ''}
</header>
<main>
${reports.map(({ name, report }, index) => sectionHtml(name, report, index)).join('\n')}
</main>
<script type="application/json" id="${DATA_ID}">${escapeJson(JSON.stringify(data))}</script>
<script>${script.replaceAll('</script', '<\\/script')}</script>
</body>
</html>
`;
}

/** The beginning of the ids of a report's charts. */
export const prefixOf = (report: AnyReport, index: number): string =>
  `${index + 1}-${report.schema.slice(report.schema.indexOf('/') + 1)}`;

function navigation(reports: readonly NamedReport[]): string {
  const entries = reports.map(
    ({ name, report }, index) => `<li><a href="#${prefixOf(report, index)}">${escapeHtml(name)}</a></li>`,
  );
  return `<nav aria-label="Results"><ul>${entries.join('')}</ul></nav>`;
}

/** One report: its circumstances, places for its charts, its method and its tables. */
export function sectionHtml(name: string, report: AnyReport, index: number): string {
  const prefix = prefixOf(report, index);
  const command = report.schema.slice(report.schema.indexOf('/') + 1);
  const charts = chartsOf(report, prefix).map(
    ({ id, title, note }) => `<figure id="${id}">
<div class="head"><h3>${escapeHtml(title)}</h3><span><button type="button" data-format="svg" aria-label="Save ${escapeHtml(title)} as SVG">SVG</button> <button type="button" data-format="png" aria-label="Save ${escapeHtml(title)} as PNG">PNG</button></span></div>
<div class="picture" role="img" aria-label="${escapeHtml(`${title}. ${note}`)}"></div>
<figcaption>${escapeHtml(note)}</figcaption>
</figure>`,
  );
  return `<section id="${prefix}" aria-labelledby="${prefix}-heading">
<h2 id="${prefix}-heading">${escapeHtml(command)} <span class="quiet">${escapeHtml(name)}</span></h2>
${factsHtml(report)}
<div class="charts">
${charts.join('\n')}
</div>
${methodHtml(report)}
${tablesOf(report).map(tableHtml).join('\n')}
</section>`;
}

function factsHtml(report: AnyReport): string {
  const { environment } = report;
  const ceilings = 'ceilings' in report ? (report.ceilings as Ceilings) : undefined;
  const [device = '', versions = '', limits] = environmentLines(environment, ceilings);
  const { features } = environment.device;
  const facts: readonly (readonly [string, string | undefined])[] = [
    ['device', device],
    ['software', `${versions}; ${environment.platform}`],
    ['taken', environment.timestamp],
    ['ceilings', limits?.replace('ceilings: ', '')],
    ['features', features.length === 0 ? undefined : features.join(', ')],
    ['matrix units', environment.device.subgroupMatrix.join(', ') || undefined],
    ...(isContextReport(report)
      ? ([
          ['family', `${report.family.scale} (${report.family.reason}), weights ${report.dtype}`],
          ['complete', report.complete ? undefined : 'no: the run was interrupted'],
        ] as const)
      : []),
  ];
  const rows = facts.flatMap(([name, value]) =>
    value === undefined ? [] : [`<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`],
  );
  return `<dl>${rows.join('')}</dl>`;
}

function methodHtml(report: AnyReport): string {
  if (!isContextReport(report) && !isPeersReport(report)) return '';
  const lines = report.method.map((line) => `<li>${escapeHtml(line)}</li>`);
  return `<details><summary>Method</summary><ul>${lines.join('')}</ul></details>`;
}

function tableHtml({ title, columns, rows }: Table): string {
  const classOf = (index: number): string => {
    const column = columns[index];
    if (column?.title === 'layers') return ' class="layers"';
    return column?.isNumber === true ? ' class="number"' : '';
  };
  const head = columns.map((column, index) => `<th scope="col"${classOf(index)}>${escapeHtml(column.title)}</th>`);
  const body = rows.map((row) => {
    const cells = row.map((cell, index) => {
      // What was not measured says why across the rest of its row.
      const span = index === row.length - 1 ? columns.length - index : 1;
      return span > 1
        ? `<td class="wide" colspan="${span}">${escapeHtml(cell)}</td>`
        : `<td${classOf(index)}>${escapeHtml(cell)}</td>`;
    });
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<details><summary>${escapeHtml(title)}</summary><div class="scroll" role="region" aria-label="${escapeHtml(title)}" tabindex="0"><table><thead><tr>${head.join('')}</tr></thead><tbody>${body.join('')}</tbody></table></div></details>`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export const escapeHtml = (value: string): string => value.replace(/[&<>"]/g, (letter) => ENTITIES[letter] ?? letter);

/** JSON that no tag can end. */
const escapeJson = (json: string): string => json.replaceAll('<', '\\u003c');
