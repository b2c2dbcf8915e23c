import { createHash } from 'node:crypto';
import { cp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Plugin, UserConfig } from 'vite';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/**
 * Puts the shipped checkpoints beside the built page. `@mambalab/checkpoints` names their folders relative to its own
 * module, `../models/hybrid/`: in the workspace that is the package's folder, and seen from `assets/` it is this copy.
 */
function shippedCheckpoints(): Plugin {
  let outDir = '';
  return {
    name: 'mambalab:shipped-checkpoints',
    apply: 'build',
    configResolved(config) {
      outDir = config.build.outDir;
    },
    async writeBundle() {
      await cp(path('../../packages/checkpoints/models'), join(outDir, 'models'), { recursive: true });
    },
  };
}

/** Writes the service worker, which keeps every file of the page. */
function serviceWorker(): Plugin {
  return {
    name: 'mambalab:service-worker',
    apply: 'build',
    async generateBundle(_, bundle) {
      const publicFiles = await readdir(path('public'));
      // The grammar engine (1 MB) serves response formats, which this page has none of.
      const built = Object.values(bundle).filter(
        (file) => file.type === 'asset' || !file.moduleIds.some((id) => id.includes('web-xgrammar')),
      );
      const files = ['index.html', ...publicFiles, ...built.map(({ fileName }) => fileName)];
      const contents = Object.values(bundle).map((file) => (file.type === 'chunk' ? file.code : String(file.source)));
      const version = createHash('sha256').update(contents.join()).digest('hex').slice(0, 12);
      const template = await readFile(path('src/service_worker.js'), 'utf8');
      const source = template
        .replace('__FILES__', JSON.stringify([...new Set(files)].sort()))
        .replace('__VERSION__', JSON.stringify(version));
      this.emitFile({ type: 'asset', fileName: 'service_worker.js', source });
    },
  };
}

const config: UserConfig = {
  root: path('.'),
  // Static files that work at any address, also below a folder.
  base: './',
  // One page: a missing file is a 404, not the page. Optional files of a checkpoint depend on that.
  appType: 'mpa',
  cacheDir: path('../../.cache/vite-playground'),
  // Most of the bundle is the text of shaders, which compresses well.
  build: { chunkSizeWarningLimit: 1500 },
  plugins: [shippedCheckpoints(), serviceWorker()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  // The sources, so that a change in a package shows at once.
  resolve: { alias: [{ find: /^@mambalab\/(\w+)$/, replacement: path('../../packages/$1/src/index.ts') }] },
};

export default config;
