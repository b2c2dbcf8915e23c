import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { kernelBenches, parseKernelReport } from '@mambalab/bench';
import type { Browser, BrowserContextOptions, Page } from 'playwright';
import { chromium } from 'playwright';
import type { PreviewServer } from 'vite';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chromiumOptions } from '../support/chromium.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const outDir = path('.cache/bench-page');
const screenshots = path('.cache/screenshots');

/** Cases of the kernel that the page is asked for. */
const LABELS = kernelBenches
  .filter(({ name }) => name === 'norm/rms_norm')
  .flatMap(({ cases }) => cases.map(({ label }) => label));

let server: PreviewServer;
let browser: Browser;
let address = '';

beforeAll(async () => {
  await build({
    configFile: path('examples/bench/vite.config.ts'),
    build: { outDir, emptyOutDir: true },
    logLevel: 'error',
  });
  server = await preview({
    configFile: false,
    appType: 'mpa',
    base: '/some/folder/',
    build: { outDir },
    preview: { host: '127.0.0.1', port: 0 },
    logLevel: 'warn',
  });
  address = server.resolvedUrls?.local[0] ?? '';
  browser = await chromium.launch(await chromiumOptions());
});

afterAll(async () => {
  await browser.close();
  await server.close();
});

/** Opens the page, and fails at the end if it wrote an error to the console. */
async function withPage(
  body: (page: Page) => Promise<void>,
  { script, ...options }: BrowserContextOptions & { readonly script?: string } = {},
): Promise<void> {
  const context = await browser.newContext(options);
  const errors: string[] = [];
  context.on('weberror', (error) => errors.push(String(error.error())));
  context.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  if (script !== undefined) await context.addInitScript(script);
  try {
    const page = await context.newPage();
    await page.goto(address);
    await body(page);
    expect(errors).toEqual([]);
  } finally {
    await context.close();
  }
}

/** The cells of a table, row by row, without its head. */
const cells = (page: Page, table: string): Promise<string[][]> =>
  page
    .locator(`#${table} tbody tr`)
    .evaluateAll((rows) => rows.map((row) => Array.from(row.querySelectorAll('td'), ({ textContent }) => textContent)));

const status = (page: Page, text: string): Promise<unknown> => page.waitForSelector(`#status:has-text("${text}")`);

it('measures kernels, says where it stands, and hands out a report that the command can read', async () => {
  await withPage(async (page) => {
    await status(page, 'Ready.');
    expect(await page.getByRole('button', { name: 'Download JSON' }).isDisabled()).toBe(true);
    await page.getByLabel('Kernels whose name holds').fill('norm/rms_norm');
    await page.getByLabel('quick').check();
    await page.keyboard.press('Enter');
    await status(page, 'kernels verified');

    const rows = await cells(page, 'kernels');
    const measured = rows.filter((row) => row.length === 8);
    expect(measured.length).toBeGreaterThanOrEqual(2);
    for (const [name, label, us, rate, ofCeiling, flops, ofFma, variant] of measured) {
      expect(name).toBe('norm/rms_norm');
      expect(LABELS).toContain(label);
      for (const number of [us, rate, flops]) expect(Number(number)).toBeGreaterThan(0);
      for (const percent of [ofCeiling, ofFma]) expect(percent).toMatch(/^\d+\.\d %$/);
      expect(variant).toMatch(/^(subgroups|baseline)/);
    }
    expect(await page.locator('#environment').textContent()).toMatch(
      /software; toggles default.*ceilings: read [\d.]+/,
    );

    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Download JSON' }).click(),
    ]);
    expect(download.suggestedFilename()).toBe('mambalab-kernels.json');
    const report = parseKernelReport(JSON.parse(readFileSync(await download.path(), 'utf8')));
    expect(report.quick).toBe(true);
    expect(report.environment.toggles).toBe('default');
    expect(report.environment.runtime).toMatch(/^Mozilla\/5\.0 .*Chrome/);
    expect(report.kernels.map(({ name }) => name)).toEqual(['norm/rms_norm']);
    const cases = report.kernels.flatMap((kernel) => kernel.cases);
    expect(cases.map(({ label }) => label)).toEqual(rows.map((row) => row[1]));
    expect(cases.filter((result) => result.status === 'measured').length).toBe(measured.length);

    await expectComparison(page);
    await page.screenshot({ path: `${screenshots}/bench-light.png`, fullPage: true });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${screenshots}/bench-dark.png`, fullPage: true });
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    await page.screenshot({ path: `${screenshots}/bench-phone.png`, fullPage: true });
  });
});

/** Compares with gpu.js. Browsers without WebGL2 say so; with it, every operation must be right and have its times. */
async function expectComparison(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Compare with gpu.js' }).click();
  await page.waitForSelector('#compare:enabled');
  const message = (await page.locator('#baseline-status').textContent()) ?? '';
  const rows = await cells(page, 'baseline');
  expect(message).toMatch(/^(All operations are compared|WebGL2 is missing)/);
  const names = ['matrix product', 'matrix times vector', 'RMS norm', 'causal conv1d'];
  expect(rows.map(([name]) => name)).toEqual(message.startsWith('WebGL2') ? [] : names);
  for (const [name, , theirs, ours, ratio = ''] of rows) {
    for (const number of [theirs, ours, ratio.replace(' ×', '')]) {
      // The cell says what went wrong.
      expect(`${name}: ${number}`).toMatch(/: [\d.]+$/);
      expect(Number(number)).toBeGreaterThan(0);
    }
  }
}

it('stops after the case under way, and keeps what was measured', async () => {
  await withPage(async (page) => {
    await status(page, 'Ready.');
    // All kernels, which would take minutes.
    await page.getByRole('button', { name: 'Run' }).click();
    await page.waitForSelector('#kernels tbody tr');
    await page.getByRole('button', { name: 'Stop' }).click();
    await status(page, 'Stopped.');
    const rows = await cells(page, 'kernels');
    expect(rows.length).toBeGreaterThan(0);
    expect(new Set(rows.map(([name]) => name)).size).toBeLessThan(5);
    // Nothing goes on behind the message.
    await page.waitForTimeout(300);
    expect(await cells(page, 'kernels')).toEqual(rows);
    expect(await page.getByRole('button', { name: 'Run' }).isEnabled()).toBe(true);
    expect(await page.getByRole('button', { name: 'Download JSON' }).isEnabled()).toBe(true);

    await page.getByLabel('Kernels whose name holds').fill('nothing/of the sort');
    await page.keyboard.press('Enter');
    await status(page, 'No kernel’s name holds “nothing/of the sort”.');
    expect(await cells(page, 'kernels')).toEqual([]);
  });
});

it('says what to do where WebGPU is missing', async () => {
  await withPage(
    async (page) => {
      const notice = page.getByRole('region', { name: 'This browser offers no WebGPU' });
      await notice.waitFor();
      expect(await notice.textContent()).toMatch(/Chrome.*Safari.*Firefox/s);
      for (const name of ['Run', 'Compare with gpu.js']) {
        expect(await page.getByRole('button', { name }).isDisabled()).toBe(true);
      }
    },
    { script: "Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });" },
  );
});

it('says so where WebGL2 is missing, and still measures', async () => {
  await withPage(
    async (page) => {
      await status(page, 'Ready.');
      await page.getByRole('button', { name: 'Compare with gpu.js' }).click();
      await page.waitForSelector('#baseline-status:has-text("WebGL2 is missing here")');
      expect(await page.getByRole('button', { name: 'Run' }).isEnabled()).toBe(true);
    },
    {
      script: `const open = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind === 'webgl2' ? null : open.call(this, kind, ...rest);
        };
        delete globalThis.OffscreenCanvas;`,
    },
  );
});
