import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models/node';
import type { AxeResults } from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright';
import { chromium } from 'playwright';
import type { PreviewServer } from 'vite';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chromiumOptions } from '../support/chromium.ts';
import { fixturePath } from '../support/fixtures.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const outDir = path('.cache/playground');
const screenshots = path('.cache/screenshots');
const axeScript = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const isLong = process.env['MAMBALAB_LONG'] === '1';

let server: PreviewServer;
let browser: Browser;
let address = '';
/** One page with the shipped hybrid, which the tests use one after the other: loading is what takes time. */
let shared: { readonly page: Page; readonly context: BrowserContext; readonly errors: string[] };

beforeAll(async () => {
  await build({
    configFile: path('examples/playground/vite.config.ts'),
    build: { outDir, emptyOutDir: true },
    // Vite warns that the checkpoints' folders are found only at runtime, which is so on purpose.
    logLevel: 'error',
  });
  // Below a folder, since that is where static hosts often put a page.
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
  shared = await openPage();
});

afterAll(async () => {
  await browser.close();
  await server.close();
});

async function openPage({ script, ...options }: BrowserContextOptions & { readonly script?: string } = {}): Promise<
  typeof shared
> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(120_000);
  const errors: string[] = [];
  context.on('weberror', (error) => errors.push(String(error.error())));
  context.on('console', (message) => {
    // Checkpoints need no chat template; the browser reports that neither of its files is there.
    const expected = /\/chat_template\.(?:jinja|json)$/.test(message.location().url);
    if (message.type() === 'error' && !expected) errors.push(`${message.text()} ${message.location().url}`);
  });
  if (script !== undefined) await context.addInitScript(script);
  const page = await context.newPage();
  await page.goto(address);
  return { page, context, errors };
}

const ready = (page: Page): Promise<unknown> => page.waitForSelector('#generate:enabled');
const status = (page: Page, text: string): Promise<unknown> => page.waitForSelector(`#text-status:has-text("${text}")`);
const written = async (page: Page): Promise<string> => (await page.locator('#written').textContent()) ?? '';
const button = (page: Page, name: string): Promise<void> => page.getByRole('button', { name, exact: true }).click();
const tab = (page: Page, name: string): Promise<void> => page.getByRole('tab', { name }).click();

async function write(page: Page, tokens: number): Promise<void> {
  await ready(page);
  await page.getByLabel('Tokens', { exact: true }).fill(String(tokens));
  await page.getByLabel('Temperature').fill('0');
  await button(page, 'Generate');
}

/** The rows of a panel by their terms. */
async function figures(page: Page, list: string): Promise<Map<string, string>> {
  const terms = await page.locator(`#${list} dt`).allTextContents();
  const values = await page.locator(`#${list} dd`).allTextContents();
  return new Map(terms.map((term, index) => [term, values[index] ?? '']));
}

/** What axe-core finds that keeps people from using the page. */
async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axeScript);
  const { violations } = await page.evaluate<AxeResults>('axe.run(document, { resultTypes: ["violations"] })');
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}

const isNoWiderThan = async (page: Page, width: number): Promise<boolean> =>
  (await page.evaluate('document.documentElement.scrollWidth')) === width;

const chooseFiles = (page: Page, names: readonly string[]): Promise<void> =>
  page.getByLabel('or its files').setInputFiles(names.map((name) => fixturePath(`models/stories260k/${name}`)));

it('writes what Node writes, goes on, forks, saves and restores', async () => {
  const { page } = shared;
  await write(page, 8);
  await status(page, 'All tokens are written.');
  const prompt = await page.getByLabel('Prompt').inputValue();
  using model = await loadModel(hybrid);
  const { text, usage } = await model.generate(prompt, { maxTokens: 12 }).result;
  expect(prompt).toBe('Once upon a time there was a little princess who');
  expect(await page.locator('#given').textContent()).toBe(prompt);
  const first = await written(page);
  expect(text.startsWith(first)).toBe(true);

  const speed = await figures(page, 'speed');
  expect(speed.get('Prompt')).toBe(`${usage.promptTokens} tokens`);
  expect(speed.get('Written')).toBe('8 tokens');
  expect(speed.get('Time to first token')).toMatch(/^[\d.]+\s(?:ms|s)$/);
  expect(speed.get('Writing at')).toMatch(/^[\d.]+ tokens\/s$/);
  const memory = await figures(page, 'memory');
  const tokens = usage.promptTokens + 8;
  expect(memory.get(`KV cache of ${tokens} tokens`)).toBe(`${((tokens * 512) / 1024).toFixed(1)} KiB`);
  expect(memory.get('State (constant)')).toMatch(/^[\d.]+ KiB$/);
  expect((await figures(page, 'device')).get('subgroups')).toMatch(/^(yes \(.*\)|no)$/);
  const chart = page.getByRole('img', { name: `GPU memory of this text after ${tokens} tokens` });
  expect(await chart.locator('polyline').count()).toBe(2);

  const download = page.waitForEvent('download');
  await button(page, 'Save');
  const file = await (await download).path();
  await page.getByLabel('Tokens', { exact: true }).fill('4');
  await button(page, 'Fork');
  await page.getByLabel('Fork shown').waitFor();
  await button(page, 'Continue');
  await status(page, 'All tokens are written.');
  expect(await written(page)).toBe(text);
  await page.getByLabel('Fork shown').selectOption('Text 1');
  expect(await written(page)).toBe(first);

  await page.getByLabel('Restore').setInputFiles(file);
  await status(page, `Restored ${tokens} tokens`);
  expect(await written(page)).toBe(first);
  await button(page, 'Continue');
  await status(page, 'All tokens are written.');
  expect(await written(page)).toBe(text);
  expect(await barriers(page)).toEqual([]);
  await page.screenshot({ path: `${screenshots}/playground-light.png`, fullPage: true });
});

it('stops, keeps the text, and can write again with the keyboard alone', async () => {
  const { page } = shared;
  await write(page, 900);
  await page.waitForFunction(() => (document.querySelector('#written')?.textContent ?? '').length > 10);
  await button(page, 'Stop');
  await status(page, 'Stopped.');
  const kept = await written(page);
  expect(Number.parseInt((await figures(page, 'speed')).get('Written') ?? '', 10)).toBeLessThan(900);
  await page.getByLabel('Tokens', { exact: true }).fill('2');
  await page.getByLabel('Prompt').focus();
  await page.keyboard.press('Control+Enter');
  await status(page, 'All tokens are written.');
  expect(kept.startsWith(await written(page))).toBe(true);
  await page.getByLabel('Seed').focus();
  await page.keyboard.press('Tab');
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('generate');
});

it('chats, and says that the model was not made for it', async () => {
  const { page } = shared;
  await page.getByLabel('Chat').check();
  await page.getByText('This model has no chat template').waitFor();
  await page.getByLabel('Message').fill('Who lives in the tower?');
  await page.getByLabel('Tokens', { exact: true }).fill('4');
  await button(page, 'Send');
  await page.waitForSelector('#text-status:text-matches("written|ended")');
  const turns = await page.locator('#turns li').allTextContents();
  expect(turns[0]).toBe('YouWho lives in the tower?');
  expect(turns[1]).toMatch(/^Model./);
  await page.getByLabel('Completion').check();
  expect(await written(page)).toBe('');
});

it('asks for every entry of a phone book', async () => {
  const { page } = shared;
  await tab(page, 'Phone book');
  for (const name of ['Mamba-2, shipped', 'Transformer, shipped']) {
    await page.getByLabel(name).and(page.getByRole('checkbox')).uncheck();
  }
  await page.getByLabel('Longest book').selectOption('2 entries');
  await button(page, 'Ask for every entry');
  await page.waitForSelector('#recall-status:has-text("Every entry was asked for.")');
  // The checkpoint's evaluation has every number of books of two right.
  expect(await page.locator('#recall-table tbody td').allTextContents()).toEqual(['2 of 2']);
  expect(await page.locator('#place-table .right').count()).toBe(2);
  await page.getByRole('img', { name: 'Mamba-2-Hybrid, 2 entries: 100 %' }).waitFor();
  expect(await barriers(page)).toEqual([]);
  await page.screenshot({ path: `${screenshots}/playground-recall.png`, fullPage: true });
});

it('opens files that the user chose, says what is wrong with others, and compares two models', async () => {
  const { page } = shared;
  await tab(page, 'Write');
  await page.getByText('Another model').click();
  await chooseFiles(page, ['tokenizer.json']);
  const alert = page.getByRole('alert');
  await alert.getByText('WeightFormatError').waitFor();
  expect(await alert.textContent()).toContain('Give a folder with config.json');
  await chooseFiles(page, ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']);
  await ready(page);
  expect(await alert.isHidden()).toBe(true);

  await tab(page, 'Compare');
  await page.getByLabel('Model B').selectOption('the chosen files');
  await page.getByLabel('Tokens each').fill('4');
  await button(page, 'Compare');
  await page.waitForSelector('#compare-status:has-text("Both texts are written.")');
  const table = await page.locator('#compare-table tbody tr').allTextContents();
  expect(table.find((row) => row.startsWith('Writing at'))).toMatch(/^Writing at[\d.]+ tokens\/s[\d.]+ tokens\/s$/);
  expect(table.find((row) => row.startsWith('State'))).toMatch(/KiB0 B$/);
  await page.getByRole('img', { name: 'the chosen files: KV cache' }).waitFor();
  await page.emulateMedia({ colorScheme: 'dark' });
  expect(await barriers(page)).toEqual([]);
  await page.screenshot({ path: `${screenshots}/playground-compare-dark.png`, fullPage: true });
});

it('fits a phone, and goes from tab to tab with arrow keys', async () => {
  const { page } = shared;
  await page.setViewportSize({ width: 360, height: 740 });
  expect(await isNoWiderThan(page, 360)).toBe(true);
  await page.screenshot({ path: `${screenshots}/playground-compare-phone.png`, fullPage: true });
  await page.getByRole('tab', { name: 'Compare' }).focus();
  for (const name of ['Phone book', 'Write']) {
    await page.keyboard.press('ArrowRight');
    expect(await page.getByRole('tab', { name }).getAttribute('aria-selected')).toBe('true');
    expect(await isNoWiderThan(page, 360)).toBe(true);
  }
  await page.screenshot({ path: `${screenshots}/playground-phone.png`, fullPage: true });
});

it('opens again without a network, with the model that it had', async () => {
  const { page, context, errors } = shared;
  await page.evaluate('navigator.serviceWorker.ready');
  await context.setOffline(true);
  await page.reload();
  await ready(page);
  expect(await page.locator('#model-status').textContent()).toMatch(/^Mamba-2-Hybrid, shipped \(.*\), loaded in/);
  const manifest = JSON.parse(readFileSync(`${outDir}/manifest.webmanifest`, 'utf8')) as { readonly start_url: string };
  expect(manifest.start_url).toBe('./');
  // That the server cannot be reached is what this is about.
  expect(errors.filter((error) => !error.includes('ERR_INTERNET_DISCONNECTED'))).toEqual([]);
  await context.close();
});

it('says what to do where WebGPU is missing', async () => {
  const script = "Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });";
  const { page, context, errors } = await openPage({ script, viewport: { width: 360, height: 740 } });
  const notice = page.getByRole('region', { name: 'This browser offers no WebGPU' });
  await notice.waitFor();
  expect(await notice.getByRole('listitem').first().textContent()).toMatch(
    /^Chrome, Edge, Opera \(as this seems to be\)/,
  );
  expect(await notice.textContent()).toMatch(/Firefox.*Safari/s);
  expect(await page.getByRole('button', { name: 'Generate' }).isDisabled()).toBe(true);
  expect(await isNoWiderThan(page, 360)).toBe(true);
  expect(await barriers(page)).toEqual([]);
  await page.screenshot({ path: `${screenshots}/playground-no-webgpu.png`, fullPage: true });
  expect(errors).toEqual([]);
  await context.close();
});

it.runIf(isLong)('loads every shipped model, and compares their recall', async () => {
  const { page, context, errors } = await openPage();
  await ready(page);
  for (const name of ['Transformer', 'Mamba', 'Mamba-2']) {
    await page.getByLabel('Model to write with').selectOption(`${name}, shipped`);
    await page.waitForSelector(`#model-status:has-text("${name}, shipped (")`);
    await write(page, 24);
    await status(page, 'All tokens are written.');
    expect((await written(page)).length).toBeGreaterThan(24);
  }
  await tab(page, 'Phone book');
  await page.getByRole('checkbox', { name: 'Mamba, shipped', exact: true }).check();
  await page.getByLabel('Longest book').selectOption('8 entries');
  await button(page, 'Ask for every entry');
  await page.waitForSelector('#recall-status:has-text("Every entry was asked for.")', { timeout: 280_000 });
  const rows = await page.locator('#recall-table tbody tr').allTextContents();
  expect(rows).toHaveLength(4);
  expect(rows.find((row) => row.startsWith('Transformer'))).toMatch(/8 of 8$/);
  await page.screenshot({ path: `${screenshots}/playground-recall-all.png`, fullPage: true });
  await tab(page, 'Compare');
  await button(page, 'Compare');
  await page.waitForSelector('#compare-status:has-text("Both texts are written.")');
  await page.screenshot({ path: `${screenshots}/playground-compare.png`, fullPage: true });
  expect(errors).toEqual([]);
  await context.close();
});

it('has no address of its own in the built files', () => {
  const html = readFileSync(`${outDir}/index.html`, 'utf8');
  expect(html).toMatch(/src="\.\/assets\//);
  expect(html).not.toMatch(/(src|href)="\//);
});
