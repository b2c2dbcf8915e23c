import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models/node';
import type { Browser, BrowserContextOptions, Page } from 'playwright';
import { chromium } from 'playwright';
import type { PreviewServer } from 'vite';
import { build, preview } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chromiumOptions } from '../support/chromium.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const outDir = path('.cache/playground');
const screenshots = path('.cache/screenshots');

let server: PreviewServer;
let browser: Browser;
let address = '';

beforeAll(async () => {
  await build({
    configFile: path('examples/playground/vite.config.ts'),
    build: { outDir, emptyOutDir: true },
    // Vite warns that the checkpoint's folder is found only at runtime, which is so on purpose.
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
    // Checkpoints need no chat template; the browser reports that neither of its files is there.
    const expected = /\/chat_template\.(?:jinja|json)$/.test(message.location().url);
    if (message.type() === 'error' && !expected) errors.push(`${message.text()} ${message.location().url}`);
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

const ready = (page: Page): Promise<unknown> => page.waitForSelector('#generate:enabled');
const status = (page: Page, text: string): Promise<unknown> => page.waitForSelector(`#text-status:has-text("${text}")`);

async function write(page: Page, tokens: number): Promise<void> {
  await ready(page);
  await page.getByLabel('Tokens').fill(String(tokens));
  await page.getByLabel('Temperature').fill('0');
  await page.getByRole('button', { name: 'Generate' }).click();
}

/** The rows of a panel by their terms. */
async function figures(page: Page, list: string): Promise<Map<string, string>> {
  const terms = await page.locator(`#${list} dt`).allTextContents();
  const values = await page.locator(`#${list} dd`).allTextContents();
  return new Map(terms.map((term, index) => [term, values[index] ?? '']));
}

it('writes what Node writes', async () => {
  await withPage(async (page) => {
    await write(page, 12);
    await status(page, 'All tokens are written.');
    const prompt = await page.getByLabel('Prompt').inputValue();
    using model = await loadModel(hybrid);
    const result = await model.generate(prompt, { maxTokens: 12 }).result;
    expect(prompt).toBe('Once upon a time there was a little princess who');
    expect(await page.locator('#given').textContent()).toBe(prompt);
    expect(await page.locator('#written').textContent()).toBe(result.text);

    const speed = await figures(page, 'speed');
    expect(speed.get('Prompt')).toBe(`${result.usage.promptTokens} tokens`);
    expect(speed.get('Written')).toBe('12 tokens');
    expect(speed.get('Writing at')).toMatch(/^[\d.]+ tokens\/s$/);
    const memory = await figures(page, 'memory');
    const tokens = result.usage.promptTokens + 12;
    expect(memory.get(`KV cache of ${tokens} tokens`)).toBe(`${((tokens * 512) / 1024).toFixed(1)} KiB`);
    expect(memory.get('State (constant)')).toMatch(/^[\d.]+ KiB$/);
    expect((await figures(page, 'device')).get('subgroups')).toMatch(/^(yes \(.*\)|no)$/);
    await page.screenshot({ path: `${screenshots}/playground-light.png`, fullPage: true });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: `${screenshots}/playground-dark.png`, fullPage: true });
  });
});

it('stops, keeps the text, and can write again', async () => {
  await withPage(async (page) => {
    await write(page, 900);
    await page.waitForFunction(() => (document.querySelector('#written')?.textContent ?? '').length > 10);
    await page.getByRole('button', { name: 'Stop' }).click();
    await status(page, 'Stopped.');
    const kept = (await page.locator('#written').textContent()) ?? '';
    expect(kept.length).toBeGreaterThan(10);
    expect(Number.parseInt((await figures(page, 'speed')).get('Written') ?? '', 10)).toBeLessThan(900);
    await write(page, 3);
    await status(page, 'All tokens are written.');
    expect(kept.startsWith((await page.locator('#written').textContent()) ?? '-')).toBe(true);
  });
});

it('opens files that the user chose, and says what is wrong with others', async () => {
  const names = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
  const { prompt, text } = readFixture<{ prompt: string; text: string }>('models/stories260k/expected.json');
  await withPage(
    async (page) => {
      await ready(page);
      await page.getByText('Open a local model').click();
      await page.getByLabel('or its files').setInputFiles([fixturePath('models/stories260k/tokenizer.json')]);
      const alert = page.getByRole('alert');
      await alert.getByText('WeightFormatError').waitFor();
      expect(await alert.textContent()).toContain('Give a folder with config.json');

      await page
        .getByLabel('or its files')
        .setInputFiles(names.map((name) => fixturePath(`models/stories260k/${name}`)));
      await ready(page);
      expect(await alert.isHidden()).toBe(true);
      await page.getByLabel('Prompt').fill(prompt);
      await write(page, 20);
      await status(page, 'All tokens are written.');
      const written = (await page.locator('#text').textContent())?.trim() ?? '';
      expect(written.length).toBeGreaterThan(prompt.length + 20);
      expect(text.startsWith(written)).toBe(true);

      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
      await page.screenshot({ path: `${screenshots}/playground-phone.png`, fullPage: true });
    },
    { viewport: { width: 360, height: 740 } },
  );
});

it('can be used with the keyboard alone', async () => {
  await withPage(async (page) => {
    await ready(page);
    await page.getByLabel('Tokens').fill('2');
    await page.getByLabel('Prompt').focus();
    await page.keyboard.press('Control+Enter');
    await status(page, 'All tokens are written.');
    await page.getByLabel('Seed').focus();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('generate');
  });
});

it('says what to do where WebGPU is missing', async () => {
  await withPage(
    async (page) => {
      const notice = page.getByRole('region', { name: 'This browser offers no WebGPU' });
      await notice.waitFor();
      expect(await notice.textContent()).toMatch(/Chrome.*Safari.*Firefox/s);
      expect(await page.getByRole('button', { name: 'Generate' }).isDisabled()).toBe(true);
      await page.screenshot({ path: `${screenshots}/playground-no-webgpu.png`, fullPage: true });
    },
    { script: "Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });" },
  );
});

it('has no address of its own in the built files', () => {
  const html = readFileSync(`${outDir}/index.html`, 'utf8');
  expect(html).toMatch(/src="\.\/assets\//);
  expect(html).not.toMatch(/(src|href)="\//);
});
