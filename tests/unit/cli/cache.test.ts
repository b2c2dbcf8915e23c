import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { progressReporter } from '../../../packages/models/src/cli/terminal.ts';
import { openHttpFolder } from '../../../packages/models/src/weights/http_folder.ts';
import { openNodeCache } from '../../../packages/models/src/weights/node_cache.ts';
import { temporaryFolder } from '../../support/caches.ts';
import { serveFiles } from '../../support/http_server.ts';

let out = '';

beforeEach(() => {
  out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

async function run(...words: readonly string[]): Promise<void> {
  out = '';
  const before = process.argv;
  process.argv = ['node', 'mambalab', ...words];
  vi.resetModules();
  try {
    await import('../../../packages/models/src/cli/main.ts');
  } finally {
    process.argv = before;
  }
}

describe('mambalab cache', () => {
  it('lists what is kept, and clears one source or all', async () => {
    const folder = await temporaryFolder();
    vi.stubEnv('MAMBALAB_CACHE', folder);
    await run('cache', 'list');
    expect(out).toBe(`0 B in ${folder}\n`);

    const server = await serveFiles({ '/one/config.json': '{"a": 1}', '/two/config.json': '{}' });
    for (const name of ['one', 'two']) {
      await openHttpFolder(`${server.url}/${name}`, { cache: openNodeCache() }).readText('config.json');
    }
    await run('cache', 'list');
    expect(out).toBe(
      `${server.url}/one/: 8 B\n  config.json: 8 B\n${server.url}/two/: 2 B\n  config.json: 2 B\n10 B in ${folder}\n`,
    );
    await run('cache', 'list', '--json');
    const listed: unknown = JSON.parse(out);
    expect(listed).toMatchObject({ folder, bytes: 10, files: [{ source: `${server.url}/one/`, whole: true }, {}] });

    await run('cache', 'clear', `${server.url}/one/`, '--json');
    expect(JSON.parse(out)).toMatchObject({ bytes: 8, files: [{ file: 'config.json' }] });
    await run('cache', 'clear');
    expect(out).toBe('Removed 1 files, 2 B.\n');
    await run('cache', 'list', '--json');
    expect(JSON.parse(out)).toEqual({ folder, bytes: 0, files: [] });
  });
});

describe('progressReporter', () => {
  it('tells of the download while there is one, and of the upload after that', () => {
    let line = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      line = String(text);
      return true;
    });
    const before = process.stderr.isTTY;
    process.stderr.isTTY = true;
    const report = progressReporter();
    const lines: string[] = [];
    const tell = (phase: 'download' | 'upload' | 'compile', loadedBytes: number): void => {
      report({ phase, loadedBytes, totalBytes: 10 });
      lines.push(/(?:down)?loading \d+ B/.exec(line)?.[0] ?? '');
    };
    tell('download', 5);
    tell('upload', 1);
    tell('download', 10);
    tell('upload', 6);
    tell('compile', 10);
    process.stderr.isTTY = before;
    expect(lines).toEqual(['downloading 5 B', 'downloading 5 B', 'downloading 10 B', 'loading 6 B', '']);
  });
});
