export interface AdapterSummary {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly isFallbackAdapter: boolean;
}

/** Environment variables that a process must be started with. */
export type ProcessEnvironment = Readonly<Record<string, string>>;

export declare function prepareSoftwareGpu(): Promise<{
  readonly vulkanEnv: ProcessEnvironment;
  readonly chromium: { readonly executablePath: string; readonly env: ProcessEnvironment };
}>;

export declare function gpuEnvironment(): Promise<{
  readonly kind: 'system' | 'software';
  readonly adapter: AdapterSummary;
  readonly env: ProcessEnvironment;
}>;
