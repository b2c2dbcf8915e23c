import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A block of TypeScript of a page. */
export interface CodeBlock {
  /** `docs/sessions.md:12`: the page, and the line of the first line of code. */
  readonly place: string;
  readonly code: string;
  /** Whether the page says that it can run: \`\`\`ts run. */
  readonly isRunnable: boolean;
}

/** Every page that is written by hand. */
export function pagesOfRepository(): string[] {
  const below = (folder: string): string[] =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
      .map((entry) => relative(root, join(entry.parentPath, entry.name)).split('\\').join('/'))
      .filter((path) => !/(?:^|\/)(?:node_modules|dist|models\/\w+|api)\/|^docs\/\.vitepress\//.test(path));
  const packages = readdirSync(join(root, 'packages')).map((name) => `packages/${name}/README.md`);
  return ['README.md', 'CONTRIBUTING.md', ...below('docs'), ...below('examples'), ...packages].sort();
}

/** The blocks of a page that are TypeScript. */
export function codeBlocks(page: string): CodeBlock[] {
  const lines = readFileSync(join(root, page), 'utf8').split('\n');
  const blocks: CodeBlock[] = [];
  for (let at = 0; at < lines.length; at++) {
    const [, words] = /^```(?:ts|typescript)\b(.*)$/.exec(lines[at] ?? '') ?? [];
    if (words === undefined) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`${page}:${at + 1}: the block has no end.`);
    const code = lines.slice(at + 1, end).join('\n');
    blocks.push({ place: `${page}:${at + 2}`, code, isRunnable: words.trim().split(/\s+/).includes('run') });
    at = end;
  }
  return blocks;
}
