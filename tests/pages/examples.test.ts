import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Page, Route } from 'playwright';
import { chromium } from 'playwright';
import { build } from 'vite';
import type { Rolldown } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { chromiumOptions } from '../support/chromium.ts';
import { fixturePath } from '../support/fixtures.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const isLong = process.env['MAMBALAB_LONG'] === '1';
const ORIGIN = 'http://localhost:8000';
const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

let browser: Browser;

beforeAll(async () => {
  browser = await chromium.launch(await chromiumOptions());
});

afterAll(() => browser.close());

/** Files of a build by their names. */
type Files = ReadonlyMap<string, string | Uint8Array>;

async function buildFiles(options: Parameters<typeof build>[0]): Promise<Files> {
  const built = await build({ logLevel: 'error', ...options, build: { ...options?.build, write: false } });
  const { output } = (Array.isArray(built) ? built[0] : built) as Rolldown.RolldownOutput;
  return new Map(output.map((file) => [file.fileName, file.type === 'chunk' ? file.code : file.source]));
}

// The sources in place of packages that are built.
const alias = [
  { find: '@mambalab/models/worker', replacement: path('packages/models/src/worker/index.ts') },
  { find: /^@mambalab\/(\w+)$/, replacement: path('packages/$1/src/index.ts') },
];

/** Answers for the pages below an address, and for the weights of every shipped model with the tiny one's. */
async function serve(page: Page, address: string, files: Files): Promise<void> {
  await page.route(`${address}/**`, async (route: Route) => {
    const { pathname } = new URL(route.request().url());
    const headers = { 'access-control-allow-origin': '*' };
    const [, weights] = /\/models\/(?:hybrid)\/([\w.]+)$/.exec(pathname) ?? [];
    if (weights !== undefined) {
      const isThere = !/^(?:chat_template|generation_config|special_tokens)/.test(weights);
      if (isThere) await route.fulfill({ headers, path: fixturePath(`models/stories260k/${weights}`) });
      else await route.fulfill({ headers, status: 404 });
      return;
    }
    const name =
      decodeURIComponent(pathname.slice(new URL(address).pathname.length).replace(/^\//, '')) || 'index.html';
    const body = files.get(name);
    if (body === undefined) await route.fulfill({ headers, status: 404 });
    else {
      const contentType = TYPES[extname(name)] ?? 'text/javascript';
      await route.fulfill({ headers, contentType, body: typeof body === 'string' ? body : Buffer.from(body) });
    }
  });
}

it('browser-minimal writes, with the packages where its import map says', async () => {
  const cdn = 'https://cdn.jsdelivr.net/npm/@mambalab';
  const lib = { formats: ['es' as const], fileName: 'main' };
  const entry = path('packages/models/src/index.ts');
  const models = await buildFiles({
    configFile: false,
    resolve: { alias },
    build: { lib: { ...lib, entry }, minify: false },
  });
  const page = await browser.newPage();
  const bundle = new Map([...models].map(([name, text]) => [name === 'main.js' ? '+esm' : name, text]));
  await serve(page, `${cdn}/models@0.1`, bundle);
  const checkpoints =
    "export const hybrid = { name: 'hybrid', url: new URL('../models/hybrid/', import.meta.url).href };";
  await serve(page, `${cdn}/checkpoints@0.1`, new Map([['dist/index.js', checkpoints]]));
  await serve(
    page,
    ORIGIN,
    new Map([['index.html', readFileSync(path('examples/browser-minimal/index.html'), 'utf8')]]),
  );
  await page.goto(`${ORIGIN}/`);
  await page.waitForFunction(() => (document.querySelector('#text')?.textContent ?? '').length > 60);
  expect(await page.locator('#text').textContent()).toMatch(/^Once upon a time./);
  await page.close();
});

/** Builds an example from the sources, opens it, and waits until it can be used. Fails at the end if it threw. */
async function withExample(name: string, body: (page: Page) => Promise<void>): Promise<void> {
  const root = path(`examples/${name}`);
  const files = await buildFiles({ configFile: `${root}/vite.config.ts`, root, resolve: { alias } });
  const page = await browser.newPage();
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  await serve(page, ORIGIN, files);
  await page.goto(`${ORIGIN}/`);
  await page.waitForSelector('button:enabled');
  await body(page);
  expect(errors).toEqual([]);
  await page.close();
}

// Each compiles the kernels anew, which takes long on a software GPU.
it.runIf(isLong)('react-chat answers', async () => {
  await withExample('react-chat', async (page) => {
    await page.getByLabel('Message').fill('Who are you?');
    await page.getByRole('button', { name: 'Send' }).click();
    await page.waitForFunction(() => /Model:.{3}/s.test(document.body.textContent ?? ''));
    expect(await page.getByRole('listitem').first().textContent()).toBe('You: Who are you?');
  });
});

it.runIf(isLong)('worker writes, and goes on', async () => {
  await withExample('worker', async (page) => {
    const first = (await page.locator('p').textContent()) ?? '';
    expect(first.length).toBeGreaterThan('Once upon a time'.length);
    await page.getByRole('button', { name: 'More' }).click();
    await page.waitForFunction(
      (before) => (document.querySelector('p')?.textContent?.length ?? 0) > before,
      first.length,
    );
  });
});
