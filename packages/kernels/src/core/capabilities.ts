/** One matrix shape that the device's matrix units compute: D(M x N) = A(M x K) * B(K x N) + C. */
export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Limits that kernels and loaders look at, as granted to the device (bytes where the name says size). */
export interface CapabilityLimits {
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupSizeX: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  readonly minStorageBufferOffsetAlignment: number;
}

/** What one device can do, probed once. A plain value: recordings are made from it without a GPU. */
export interface Capabilities {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  readonly features: ReadonlySet<string>;
  readonly limits: CapabilityLimits;
  /** Range of subgroup sizes, where the device has subgroups. */
  readonly subgroupSize: { readonly min: number; readonly max: number } | undefined;
  readonly subgroupMatrix: readonly SubgroupMatrixConfig[];
  /** Whether a CPU does the work (SwiftShader, llvmpipe). */
  readonly software: boolean;
}

/** WebGPU's default limits: what every device has, and what the last variant of each kernel keeps to. */
export const DEFAULT_LIMITS: CapabilityLimits = {
  maxBufferSize: 268_435_456,
  maxStorageBufferBindingSize: 134_217_728,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16_384,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupsPerDimension: 65_535,
  minStorageBufferOffsetAlignment: 256,
};

/** A device with no optional feature and default limits; for planning and tests without a GPU. */
export const BASELINE_CAPABILITIES: Capabilities = {
  vendor: '',
  architecture: '',
  description: 'baseline',
  features: new Set(),
  limits: DEFAULT_LIMITS,
  subgroupSize: undefined,
  subgroupMatrix: [],
  software: false,
};

/** Optional features that the library makes use of where an adapter offers them. */
export const USED_FEATURES: readonly string[] = [
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
];

const LIMIT_NAMES = Object.keys(DEFAULT_LIMITS) as (keyof CapabilityLimits)[];

/** Limits to ask for: everything that the adapter offers. */
export function offeredLimits(limits: GPUSupportedLimits): Record<keyof CapabilityLimits, number> {
  const offered = { ...DEFAULT_LIMITS } as Record<keyof CapabilityLimits, number>;
  for (const name of LIMIT_NAMES) offered[name] = limits[name];
  return offered;
}

/** Reads the capabilities of a device that exists. */
export function probeCapabilities(info: GPUAdapterInfo, device: GPUDevice): Capabilities {
  const features = new Set<string>(device.features);
  const described = info as GPUAdapterInfo & {
    readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig>;
    readonly isFallbackAdapter?: boolean;
  };
  const text = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`.toLowerCase();
  const hasMatrix = features.has('chromium-experimental-subgroup-matrix');
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description || info.device || info.vendor,
    features,
    limits: offeredLimits(device.limits),
    subgroupSize: features.has('subgroups')
      ? { min: info.subgroupMinSize ?? 4, max: info.subgroupMaxSize ?? 128 }
      : undefined,
    subgroupMatrix: hasMatrix
      ? [...(described.subgroupMatrixConfigs ?? [])].map(({ componentType, resultComponentType, M, N, K }) => ({
          componentType,
          resultComponentType,
          M,
          N,
          K,
        }))
      : [],
    software: described.isFallbackAdapter === true || /swiftshader|llvmpipe|lavapipe/.test(text),
  };
}

/**
 * Whether a device meets one requirement of a shader variant: a feature name, a limit such as
 * `maxComputeWorkgroupStorageSize>=32768`, the smallest subgroup size as `subgroupSize>=16`, its only one as
 * `subgroupSize=32`, or a shape of its matrix units as `matrix:f16:16x16x16:f32` (operands, M x N x K, result).
 */
export function hasRequirement(capabilities: Capabilities, requirement: string): boolean {
  const { subgroupSize } = capabilities;
  const matrix = /^matrix:(\w+):(\d+)x(\d+)x(\d+):(\w+)$/.exec(requirement);
  if (matrix !== null) {
    return capabilities.subgroupMatrix.some(({ componentType, resultComponentType, M, N, K }) =>
      [componentType, M, N, K, resultComponentType].every((value, at) => String(value) === matrix[at + 1]),
    );
  }
  const exact = /^subgroupSize=(\d+)$/.exec(requirement);
  if (exact !== null) return subgroupSize?.min === Number(exact[1]) && subgroupSize.max === Number(exact[1]);
  const limit = /^(\w+)>=(\d+)$/.exec(requirement);
  if (limit === null) return capabilities.features.has(requirement);
  const [, name, bound] = limit;
  if (name === 'subgroupSize') return (subgroupSize?.min ?? 0) >= Number(bound);
  const granted: Partial<Record<string, number>> = { ...capabilities.limits };
  return (granted[name ?? ''] ?? 0) >= Number(bound);
}
