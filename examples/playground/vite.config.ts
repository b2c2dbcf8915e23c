import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Plugin, UserConfig } from 'vite';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/**
 * Puts the shipped checkpoint beside the built page. `@mambalab/checkpoints` names its folder relative to its own
 * module, `../models/hybrid/`: in the workspace that is the package's folder, and seen from `assets/` it is this copy.
 */
function shippedCheckpoint(): Plugin {
  let outDir = '';
  return {
    name: 'mambalab:shipped-checkpoint',
    apply: 'build',
    configResolved(config) {
      outDir = config.build.outDir;
    },
    async writeBundle() {
      await cp(path('../../packages/checkpoints/models/hybrid'), join(outDir, 'models/hybrid'), { recursive: true });
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
  plugins: [shippedCheckpoint()],
  // The sources, so that a change in a package shows at once.
  resolve: { alias: [{ find: /^@mambalab\/(\w+)$/, replacement: path('../../packages/$1/src/index.ts') }] },
};

export default config;
