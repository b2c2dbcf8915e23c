import { prepareSoftwareGpu } from '../../scripts/software-gpu.mjs';

/** How playwright starts the browser of the tests. */
export interface ChromiumOptions {
  readonly executablePath?: string;
  readonly channel?: string;
  readonly env?: Record<string, string>;
  readonly args: string[];
}

// SwiftShader is the adapter everywhere, so that browser results do not depend on the machine.
const flags = [
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

/** The browser of the tests: the one named by MAMBALAB_CHROMIUM, the unpacked one, or an installed Chrome. */
export async function chromiumOptions(): Promise<ChromiumOptions> {
  const { MAMBALAB_CHROMIUM: executablePath } = process.env;
  if (executablePath !== undefined) return { executablePath, args: flags };
  if (process.platform !== 'linux' || process.arch !== 'x64') return { channel: 'chrome', args: flags };
  const { chromium } = await prepareSoftwareGpu();
  const inherited = Object.entries(process.env).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value]],
  );
  const env = { ...Object.fromEntries(inherited), ...chromium.env };
  return { executablePath: chromium.executablePath, env, args: flags };
}
