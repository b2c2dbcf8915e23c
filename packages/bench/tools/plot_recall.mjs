// Draws reports of `mambalab-bench phonebook --json` as one SVG picture: the share of right answers over the size of the
// texts, with standard errors. Lines of one model have one colour; a further report is drawn dashed.
//
//     node packages/bench/tools/plot_recall.mjs OUT.svg REPORT.json [LABEL=REPORT.json ...]
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';

const WIDTH = 760;
const HEIGHT = 400;
const PLOT = { left: 62, right: 560, top: 44, bottom: 340 };
// Okabe and Ito's colours, which colour-blind readers tell apart.
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];
const DASHES = ['', '6 4', '2 3'];

/**
 * @param {readonly any[]} reports of `mambalab-bench/recall`, of one task
 * @param {readonly (string | undefined)[]} labels what tells their lines apart, where there are several
 */
export function plotRecall(reports, labels = []) {
  for (const { schema, version, task } of reports) {
    if (schema !== 'mambalab-bench/recall' || version !== 1)
      throw new Error('This is no report of mambalab-bench phonebook.');
    if (task !== reports[0].task)
      throw new Error(`Reports of one task are drawn together; found ${reports[0].task} and ${task}.`);
  }
  const lines = reports.flatMap(({ models }, report) =>
    models.map(({ name, cells }) => ({ name: basename(name), cells, report })),
  );
  const names = [...new Set(lines.map(({ name }) => name))];
  const sizes = [...new Set(lines.flatMap(({ cells }) => cells.map(({ size }) => size)))].sort((a, b) => a - b);
  if (sizes.length === 0) throw new Error('The report holds no result.');
  const [least, most] = [Math.log2(sizes[0]), Math.log2(sizes.at(-1))];
  const x = (size) => PLOT.left + ((Math.log2(size) - least) / (most - least || 1)) * (PLOT.right - PLOT.left);
  const y = (share) => PLOT.bottom - share * (PLOT.bottom - PLOT.top);
  const { task, unit, environment } = reports[0];
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(PLOT.left, 24, `Right answers by ${unit}, task ${task}`, { size: 15, weight: 600 }),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
      `<path d="M${PLOT.left} ${at(y(share))}H${PLOT.right}" stroke="#dddddd"/>`,
      text(PLOT.left - 8, y(share) + 4, `${100 * share} %`, { anchor: 'end' }),
    ]),
    ...spaced(sizes, x).map((size) => text(x(size), PLOT.bottom + 20, String(size), { anchor: 'middle' })),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 42, unit === 'entries' ? 'entries of the book' : 'tokens', {
      anchor: 'middle',
    }),
    text(WIDTH - 8, HEIGHT - 8, `${environment.device.name || environment.device.vendor}; bars are standard errors`, {
      anchor: 'end',
      size: 10,
    }),
  ];
  for (const { name, cells, report } of lines) {
    const colour = COLOURS[names.indexOf(name) % COLOURS.length];
    const path = cells
      .map(({ size, score }, index) => `${index === 0 ? 'M' : 'L'}${at(x(size))} ${at(y(score))}`)
      .join('');
    const dash = DASHES[report % DASHES.length];
    parts.push(
      `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash ? ` stroke-dasharray="${dash}"` : ''}/>`,
    );
    for (const { size, score, standardError = 0 } of cells) {
      const [low, high] = [Math.max(0, score - standardError), Math.min(1, score + standardError)];
      parts.push(`<path d="M${at(x(size))} ${at(y(low))}V${at(y(high))}" stroke="${colour}"/>`);
      parts.push(
        `<circle cx="${at(x(size))}" cy="${at(y(score))}" r="2.5" fill="${report === 0 ? colour : '#ffffff'}" stroke="${colour}"/>`,
      );
    }
  }
  for (const [index, { name, report }] of lines.entries()) {
    const [left, top] = [PLOT.right + 16, PLOT.top + 8 + 20 * index];
    const colour = COLOURS[names.indexOf(name) % COLOURS.length];
    const dash = DASHES[report % DASHES.length];
    parts.push(
      `<path d="M${left} ${top}h24" stroke="${colour}" stroke-width="2"${dash ? ` stroke-dasharray="${dash}"` : ''}/>`,
    );
    parts.push(text(left + 30, top + 4, labels[report] === undefined ? name : `${name}, ${labels[report]}`));
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" ` +
    `role="img" font-family="system-ui, sans-serif">\n<title>Share of right answers by ${unit} of ${names.map(escape).join(', ')}</title>\n` +
    `${parts.join('\n')}\n</svg>\n`
  );
}

/** Labels that do not touch: those at least 26 apart. */
function spaced(sizes, x) {
  const kept = [];
  for (const size of sizes) if (kept.length === 0 || x(size) - x(kept.at(-1)) >= 26) kept.push(size);
  return kept;
}

function text(x, y, content, { anchor = 'start', size = 12, weight = 400 } = {}) {
  return `<text x="${at(x)}" y="${at(y)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" fill="#222222">${escape(content)}</text>`;
}

const at = (value) => String(Math.round(10 * value) / 10);
const escape = (content) => content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [out, ...files] = process.argv.slice(2);
  if (out === undefined || files.length === 0) throw new Error('Give the picture to write, then one report or more.');
  const named = files.map((file) => (file.includes('=') ? file.split('=') : [undefined, file]));
  const reports = named.map(([, file]) => JSON.parse(readFileSync(file, 'utf8')));
  writeFileSync(
    out,
    plotRecall(
      reports,
      named.map(([label]) => label),
    ),
  );
  console.log(`written: ${out}`);
}
