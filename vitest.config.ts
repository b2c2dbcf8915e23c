import { fileURLToPath } from 'node:url';
import { playwright } from '@vitest/browser-playwright';
import type { ViteUserConfig } from 'vitest/config';
import { prepareSoftwareGpu } from './scripts/software-gpu.mjs';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

// The tests run on the sources: no build stands between a change and its test.
const alias = [
  { find: /^@mambalab\/kernels\/reference$/, replacement: path('packages/kernels/reference/index.ts') },
  { find: /^@mambalab\/(\w+)$/, replacement: path('packages/$1/src/index.ts') },
  { find: /^@mambalab\/(\w+)\/([\w-]+)$/, replacement: path('packages/$1/src/$2') },
];

/** The browser of the gpu-browser tests: the one named by MAMBALAB_CHROMIUM, the unpacked one, or an installed Chrome. */
async function browser(): Promise<{ executablePath?: string; channel?: string; env?: Record<string, string> }> {
  const { MAMBALAB_CHROMIUM: executablePath } = process.env;
  if (executablePath !== undefined) return { executablePath };
  if (process.platform !== 'linux' || process.arch !== 'x64') return { channel: 'chrome' };
  const { chromium } = await prepareSoftwareGpu();
  const inherited = Object.entries(process.env).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value]],
  );
  return { executablePath: chromium.executablePath, env: { ...Object.fromEntries(inherited), ...chromium.env } };
}

// SwiftShader is the adapter everywhere, so that browser results do not depend on the machine.
const chromiumFlags = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--headless',
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const config: ViteUserConfig = {
  cacheDir: '.cache/vite',
  resolve: { alias },
  test: {
    // Software GPUs use every core that they find: more workers only make each test slower.
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['tests/{reference,properties,layout,unit}/**/*.test.ts'],
          sequence: { groupOrder: 0 },
        },
      },
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
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: { ...(await browser()), args: chromiumFlags } }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
    ],
  },
};

export default config;
