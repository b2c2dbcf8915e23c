import type { UserConfig } from 'vite';

const config: UserConfig = {
  base: './',
  build: { chunkSizeWarningLimit: 1500, target: 'es2022' },
  // The worker loads parts of the library when it needs them.
  worker: { format: 'es' },
};

export default config;
