import { fileURLToPath } from 'node:url';
import type { UserConfig } from 'vite';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

const config: UserConfig = {
  root: path('.'),
  // Static files that work at any address, also below a folder.
  base: './',
  appType: 'mpa',
  cacheDir: path('../../.cache/vite-bench'),
  // The text of shaders, and gpu.js, which is fetched only for the comparison with it.
  build: { chunkSizeWarningLimit: 1500 },
  // The sources, so that a change in a package shows at once.
  resolve: {
    alias: [
      { find: /^@mambalab\/kernels\/reference$/, replacement: path('../../packages/kernels/reference/index.ts') },
      { find: /^@mambalab\/(\w+)$/, replacement: path('../../packages/$1/src/index.ts') },
    ],
  },
};

export default config;
