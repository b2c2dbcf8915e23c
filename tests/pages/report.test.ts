import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { contextReport, kernelReport, peersReport } from '../support/bench_reports.ts';
import type { Browser, BrowserContextOptions, Page } from 'playwright';
import { chromium } from 'playwright';
import { build } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AnyReport } from '../../packages/bench/src/any_report.ts';
import { reportHtml } from '../../packages/bench/src/report/html.ts';
import { svgFiles } from '../../packages/bench/src/report/svg_files.ts';
import { chromiumOptions } from '../support/chromium.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const folder = path('.cache/report');
const file = `${folder}/report.html`;
const screenshots = path('.cache/screenshots');
/** A result that is committed. */
function result(name: string): AnyReport {
  return JSON.parse(readFileSync(path(`packages/bench/results/nvidia-h200/${name}.json`), 'utf8')) as AnyReport;
}

const reports = [
  { name: 'context </script> & more', report: contextReport() },
  { name: 'kernels', report: kernelReport([10, 11, 12]) },
  { name: 'models', report: result('batches-native') },
  { name: 'peers', report: peersReport() },
  {
    name: 'other',
    report: {
      schema: 'mambalab-bench/phonebook' as const,
      version: 1,
      environment: kernelReport([1]).environment,
      books: [{ entries: 8, accuracy: 0.975 }],
    },
  },
  { name: 'recall', report: result('recall-training-shipped') },
];

let browser: Browser;

beforeAll(async () => {
  const built = await build({
    configFile: false,
    logLevel: 'error',
    build: {
      write: false,
      lib: { entry: path('packages/bench/src/report/page.ts'), formats: ['iife'], name: 'report' },
    },
  });
  const [output] = [built].flat();
  if (output === undefined || !('output' in output)) throw new Error('The program of the page was not built.');
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, reportHtml(reports, output.output[0].code, 'A report'));
  browser = await chromium.launch(await chromiumOptions());
});

afterAll(async () => {
  await browser.close();
});

/** Opens the file, and fails at the end if it wrote an error or asked for anything beside itself. */
async function withPage(options: BrowserContextOptions, body: (page: Page) => Promise<void>): Promise<void> {
  const context = await browser.newContext(options);
  const problems: string[] = [];
  context.on('weberror', (error) => problems.push(String(error.error())));
  context.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  context.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && request.url() !== pathToFileURL(file).href)
      problems.push(request.url());
  });
  try {
    const page = await context.newPage();
    await page.goto(pathToFileURL(file).href);
    await body(page);
    expect(problems).toEqual([]);
  } finally {
    await context.close();
  }
}

const CHARTS = [
  '1-context-decode-1',
  '1-context-speedup-1',
  '1-context-memory',
  '1-context-prefill',
  '1-context-ablation',
  '2-kernels-kernels',
  '2-kernels-roofline',
  '3-models-decode',
  '3-models-prefill',
  '4-peers-decode',
  '4-peers-prefill',
  '6-recall-recall',
];

it('draws every chart, shows what a mark stands for, and saves pictures', async () => {
  await withPage({ viewport: { width: 1280, height: 900 } }, async (page) => {
    const ids = await page.locator('figure').evaluateAll((figures) => figures.map(({ id }) => id));
    expect(ids).toEqual(CHARTS);
    for (const id of CHARTS) {
      const marks = page.locator(`[id="${id}"] svg`).locator('circle, rect, path');
      expect(`${id}: ${await marks.count()}`).toMatch(/: [1-9]/);
    }
    const picture = page.locator('[id="1-context-decode-1"] svg');
    await picture.locator('circle').first().hover({ force: true });
    await expect.poll(async () => (await picture.textContent()) ?? '').toMatch(/tokens\/s, [\d.]+ ms a step/);

    const [svg] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save Decoding, batch 1 as SVG' }).click(),
    ]);
    expect(svg.suggestedFilename()).toBe('1-context-decode-1.svg');
    expect(readFileSync(await svg.path(), 'utf8')).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    const [png] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Save Speed-up of the hybrid, batch 1 as PNG' }).click(),
    ]);
    const bytes = readFileSync(await png.path());
    expect(bytes.subarray(1, 4).toString()).toBe('PNG');
    // 800 wide, twice.
    expect(bytes.readUInt32BE(16)).toBe(1600);
    await page.screenshot({ path: `${screenshots}/report-light.png`, fullPage: true });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${screenshots}/report-dark.png`, fullPage: true });
  });
});

it('tells everything in tables too, and what results of other commands hold', async () => {
  await withPage({ viewport: { width: 1280, height: 900 }, javaScriptEnabled: false }, async (page) => {
    const text = (await page.locator('main').textContent()) ?? '';
    expect(text).toContain('skipped: needs 80 GiB of 70 GiB');
    expect(text).toContain('skipped: no time was left');
    expect(text).toContain('A <GPU> & "more"');
    expect(text).toContain('Weights are random.');
    const books = page.locator('section').nth(4).locator('table');
    expect(await books.locator('tbody td').allTextContents()).toEqual(['8', '0.975']);
    expect(text).toContain('Texts at the same time');
    const recalled = page.locator('section').last().locator('tbody tr');
    expect(await recalled.count()).toBe(32);
    expect(await page.title()).toBe('A report');
  });
});

it('fits a phone', async () => {
  await withPage({ viewport: { width: 360, height: 740 } }, async (page) => {
    for (const summary of await page.locator('summary').all()) await summary.click();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    const widths = await page.locator('figure svg').evaluateAll((all) => all.map((svg) => svg.clientWidth));
    for (const width of widths) expect(width).toBeLessThanOrEqual(340);
    await page.screenshot({ path: `${screenshots}/report-phone.png`, fullPage: true });
  });
});

it('is drawn without a browser as well', () => {
  const files = svgFiles(contextReport(), 'x');
  expect(files.map(({ name }) => name)).toEqual(CHARTS.slice(0, 5).map((id) => id.replace('1-context', 'x')));
  for (const { svg } of files) {
    expect(svg).toMatch(/^<svg [^>]*xmlns=/);
    expect(svg).not.toContain('NaN');
  }
});
