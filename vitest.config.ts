import { fileURLToPath } from 'node:url';
import { playwright } from '@vitest/browser-playwright';
import type { ViteUserConfig } from 'vitest/config';
import { chromiumOptions } from './tests/support/chromium.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

// The tests run on the sources: no build stands between a change and its test.
const alias = [
  { find: /^@mambalab\/kernels\/reference$/, replacement: path('packages/kernels/reference/index.ts') },
  { find: /^@mambalab\/(\w+)$/, replacement: path('packages/$1/src/index.ts') },
  { find: /^@mambalab\/models\/ai-sdk$/, replacement: path('packages/models/src/ai_sdk') },
  { find: /^@mambalab\/(\w+)\/([\w-]+)$/, replacement: path('packages/$1/src/$2') },
];

// Tests that take too long for every day: MAMBALAB_LONG=1 npx vitest run --project long
const long = { name: 'long', include: ['tests/long/**/*.test.ts'], testTimeout: 600_000, sequence: { groupOrder: 4 } };

const config: ViteUserConfig = {
  cacheDir: '.cache/vite',
  resolve: { alias },
  test: {
    // Software GPUs use every core that they find: more workers only make each test slower.
    maxWorkers: 2,
    // What a test downloads without saying where to stays here.
    env: { MAMBALAB_CACHE: path('.cache/downloads') },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['tests/{reference,properties,layout,unit}/**/*.test.ts'],
          sequence: { groupOrder: 0 },
        },
      },
      ...(process.env['MAMBALAB_LONG'] === '1' ? [{ extends: true as const, test: long }] : []),
      {
        extends: true,
        test: {
          name: 'gpu-node',
          include: ['tests/{kernels,models}/**/*.test.ts'],
          globalSetup: ['tests/support/gpu-environment.ts'],
          // The Vulkan loader reads its environment at the start of a process: threads would come too late.
          pool: 'forks',
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'gpu-browser',
          include: ['tests/browser/**/*.test.ts'],
          globalSetup: ['tests/support/large_file.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: await chromiumOptions() }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
      {
        extends: true,
        test: {
          name: 'pages',
          include: ['tests/pages/**/*.test.ts'],
          // What a page writes is compared with what Node writes.
          globalSetup: ['tests/support/gpu-environment.ts'],
          pool: 'forks',
          testTimeout: 300_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
};

export default config;
