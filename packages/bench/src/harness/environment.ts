import type { Device } from '@mambalab/kernels';
import kernelsManifest from '../../../kernels/package.json' with { type: 'json' };
import manifest from '../../package.json' with { type: 'json' };
import type { Environment } from '../results.ts';

/** What a process knows of itself and a device cannot tell; of `packages`, those beside this workspace's own. */
export type Host = Pick<Environment, 'platform' | 'runtime' | 'packages' | 'commit' | 'toggles'>;

/** Where and with what a process measures. */
export function describeEnvironment({ capabilities, gpu }: Device, host: Host): Environment {
  const { limits, subgroupSize } = capabilities;
  const { platform, runtime, packages, commit, toggles } = host;
  return {
    timestamp: new Date().toISOString(),
    platform,
    runtime,
    packages: {
      [manifest.name]: manifest.version,
      [kernelsManifest.name]: kernelsManifest.version,
      ...packages,
    },
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
