import type { UserConfig } from 'vite';

const config: UserConfig = {
  base: './',
  build: { chunkSizeWarningLimit: 1500 },
  // The shipped weights are found at runtime: copy node_modules/@mambalab/checkpoints/models beside the built page's
  // assets folder, or load a model from elsewhere.
  oxc: { jsx: { runtime: 'automatic', importSource: 'react' } },
};

export default config;
