import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Device } from '@mambalab/kernels';
import kernelsManifest from '../../../kernels/package.json' with { type: 'json' };
import manifest from '../../package.json' with { type: 'json' };
import type { Environment } from '../results.ts';

/** Where and with what this process measures. */
export function describeEnvironment(device: Device, toggles: 'default' | 'native'): Environment {
  const { capabilities, gpu } = device;
  const { limits, subgroupSize } = capabilities;
  const commit = currentCommit();
  return {
    timestamp: new Date().toISOString(),
    platform: `${process.platform} ${process.arch}`,
    runtime: `node ${process.version}`,
    packages: packageVersions(),
    ...(commit === undefined ? {} : { commit }),
    toggles,
    device: {
      vendor: capabilities.vendor,
      architecture: capabilities.architecture,
      name: gpu.adapterInfo.device,
      driver: gpu.adapterInfo.description,
      software: capabilities.software,
      features: [...capabilities.features].sort(),
      limits: { ...limits },
      ...(subgroupSize === undefined ? {} : { subgroupSize }),
      subgroupMatrix: capabilities.subgroupMatrix.map(
        ({ componentType, resultComponentType, M, N, K }) =>
          `${componentType} ${M}x${N}x${K} -> ${resultComponentType}`,
      ),
    },
  };
}

function packageVersions(): Record<string, string> {
  const versions: Record<string, string> = {
    [manifest.name]: manifest.version,
    [kernelsManifest.name]: kernelsManifest.version,
  };
  try {
    const main = createRequire(import.meta.url).resolve('webgpu');
    const found = JSON.parse(readFileSync(join(dirname(main), 'package.json'), 'utf8')) as { version?: string };
    if (found.version !== undefined) versions['webgpu'] = found.version;
  } catch {
    // Packages that another tool bundled or moved do not say their version.
  }
  return versions;
}

/** The commit of the sources that this program stands in, or the one that MAMBALAB_COMMIT names; none elsewhere. */
function currentCommit(): string | undefined {
  const { MAMBALAB_COMMIT: named } = process.env;
  if (named !== undefined) return named;
  const cwd = dirname(fileURLToPath(import.meta.url));
  // Installed in a project, git would name the commit of that project.
  if (cwd.includes('node_modules')) return undefined;
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { cwd, encoding: 'utf8', stdio: 'pipe' }).trim();
  } catch {
    return undefined;
  }
}
