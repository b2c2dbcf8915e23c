import { existsSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DefaultTheme, UserConfig } from 'vitepress';

const docs = fileURLToPath(new URL('..', import.meta.url));
const root = resolve(docs, '..');
/** Where the sources can be read, such as `https://github.com/owner/name`. */
const { MAMBALAB_REPOSITORY: repository } = process.env;

/** Pages that stand at the root of the repository, where contributors look for them. */
const included: Readonly<Record<string, string>> = {
  'CONTRIBUTING.md': '/guide/contributing',
  'GLOSSARY.md': '/guide/glossary',
};

/**
 * Where a link of a page leads: within the site, to a file of the repository, or nowhere (the text stays, unlinked,
 * where the repository's address is not known).
 *
 * @throws Error if a file that is named is not there
 */
function hrefOf(page: string, href: string): string | undefined {
  if (/^(?:[a-z]+:|#|\/)/.test(href)) return href;
  const [path = '', anchor] = href.split('#');
  const target = resolve(dirname(page), path);
  const place = relative(root, target).split('\\').join('/');
  if (target.startsWith(docs) && !place.startsWith('docs/bench/results')) return href;
  if (!existsSync(target)) throw new Error(`${relative(root, page)} links to ${href}, which is not there.`);
  const known = included[place];
  if (known !== undefined) return anchor === undefined ? known : `${known}#${anchor}`;
  return repository === undefined ? undefined : `${repository}/blob/main/${place}`;
}

const items = (...pairs: readonly (readonly [text: string, link: string])[]): DefaultTheme.SidebarItem[] =>
  pairs.filter(([, link]) => isPage(link)).map(([text, link]) => ({ text, link }));

/** Whether a page is there: pages may come with a part of the library. */
function isPage(link: string): boolean {
  if (Object.values(included).includes(link) || link.startsWith('/api')) return true;
  const file = resolve(docs, `.${link}`);
  return existsSync(`${file}.md`) || existsSync(resolve(file, 'README.md'));
}

const config: UserConfig<DefaultTheme.Config> = {
  title: 'mambalab',
  description: 'Language models of the Mamba line, and Transformers to compare them with, on WebGPU.',
  lang: 'en',
  // Any address below which the site is put: `--base /name/`.
  cleanUrls: false,
  outDir: resolve(root, '.cache/site'),
  cacheDir: resolve(root, '.cache/vitepress'),
  rewrites: {
    'kernels/README.md': 'kernels/index.md',
    'bench/README.md': 'bench/index.md',
    'api/README.md': 'api/index.md',
  },
  head: [
    [
      'link',
      {
        rel: 'icon',
        href: "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 11c3 0 3-6 6-6s3 6 6 6' fill='none' stroke='%230f766e' stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E",
      },
    ],
  ],
  markdown: {
    config(markdown) {
      markdown.core.ruler.push('repository-links', ({ tokens, env }) => {
        const { path } = env as { readonly path?: string };
        for (const token of tokens.flatMap(({ children }) => children ?? [])) {
          const href = token.type === 'link_open' ? token.attrGet('href') : null;
          if (href === null || path === undefined) continue;
          const kept = hrefOf(path, href);
          if (kept === undefined) token.attrs = null;
          else token.attrSet('href', kept);
        }
      });
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: items(
      ['Start', '/guide/start'],
      ['How SSD works', '/guide/ssd'],
      ['Performance', '/performance'],
      ['API', '/api/'],
    ),
    sidebar: [
      {
        text: 'Use',
        items: items(
          ['Start in five minutes', '/guide/start'],
          ['Loading', '/loading'],
          ['Generating', '/generation'],
          ['Sessions and state', '/sessions'],
          ['Structured output', '/guide/structured-output'],
          ['Workers', '/workers'],
          ['Serving', '/serving'],
          ['AI SDK', '/ai-sdk'],
          ['Quantizing', '/guide/quantizing'],
          ['Evaluating', '/guide/evaluating'],
          ['Browsers', '/guide/browsers'],
        ),
      },
      {
        text: 'Understand',
        items: items(
          ['How SSD works', '/guide/ssd'],
          ['Architecture', '/architecture'],
          ['Kernels', '/kernels/'],
          ['Variants of kernels', '/kernels/variants'],
          ['Families', '/models/families'],
          ['Quantized checkpoints', '/models/quantized-format'],
          ['Glossary', '/guide/glossary'],
        ),
      },
      {
        text: 'Measure',
        items: items(
          ['Measuring', '/guide/measuring'],
          ['Performance', '/performance'],
          ['Context', '/bench/context'],
          ['Benchmarks', '/bench/'],
        ),
      },
      {
        text: 'Extend',
        items: items(
          ['Adding a kernel', '/guide/adding-a-kernel'],
          ['Adding a family', '/models/adding-a-family'],
          ['Contributing', '/guide/contributing'],
          ['Licences', '/licences'],
        ),
      },
      { text: 'Reference', items: items(['API', '/api/']) },
    ],
  },
};

export default config;
