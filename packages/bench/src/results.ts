import type { Summary } from './harness/statistics.ts';

/** Where and with what a measurement was taken. */
export interface Environment {
  /** ISO 8601, UTC. */
  readonly timestamp: string;
  readonly platform: string;
  /** Version of Node, or the browser's user agent. */
  readonly runtime: string;
  /** Versions by package name. */
  readonly packages: Readonly<Record<string, string>>;
  readonly commit?: string;
  /** `default` is what a browser does. */
  readonly toggles: 'default' | 'native';
  readonly device: {
    readonly vendor: string;
    readonly architecture: string;
    readonly name: string;
    /** What the driver says of itself, its version among it. */
    readonly driver: string;
    readonly software: boolean;
    readonly features: readonly string[];
    readonly limits: Readonly<Record<string, number>>;
    readonly subgroupSize?: { readonly min: number; readonly max: number };
    /** Matrix shapes such as `f16 16x16x16 -> f32` (M x N x K). */
    readonly subgroupMatrix: readonly string[];
  };
}

/** What trivial kernels reach on this device in this run: the 100 per cent of everything else. */
export interface Ceilings {
  /** Streaming read. */
  readonly readGigabytesPerSecond: number;
  /** Copy, bytes read and written. */
  readonly copyGigabytesPerSecond: number;
  /** f32 multiply-adds from registers. */
  readonly fmaTeraflops: number;
  /** One small dispatch that waits for the one before it. */
  readonly dispatchMicroseconds: number;
}

/** Comparison of a kernel with its reference. `worst` is the largest error over its tolerance. */
export type Verification =
  | { readonly passed: true; readonly values: number; readonly worst: number }
  | { readonly passed: false; readonly reason: string };

/** Whether repetitions of a kernel on the same inputs gave the same bits; where not, the first that differed, and where. */
export type Determinism =
  | { readonly repeats: number; readonly equal: true }
  | { readonly repeats: number; readonly equal: false; readonly repeat: number; readonly value: number };

/** One shader of a case and its choice on every axis. */
export interface DispatchedShader {
  readonly shader: string;
  readonly choices: Readonly<Record<string, string>>;
}

export interface MeasuredCase {
  readonly status: 'measured';
  readonly label: string;
  readonly microseconds: Summary;
  readonly method: 'timestamps' | 'wall clock';
  /** Repetitions in each sample. */
  readonly repetitions: number;
  /** Copies of the tensors that repetitions take in turn. */
  readonly copies: number;
  readonly dispatches: readonly DispatchedShader[];
  readonly flops: number;
  readonly bytes: number;
  readonly gigabytesPerSecond: number;
  readonly teraflops: number;
  /** Of the read ceiling; of the copy ceiling where as much is written as read; between them otherwise. */
  readonly bandwidthPercent: number;
  /** Of the f32 ceiling; kernels on matrix units may exceed it. */
  readonly fmaPercent: number;
}

export type CaseResult =
  MeasuredCase | { readonly status: 'skipped' | 'failed'; readonly label: string; readonly reason: string };

export interface KernelResult {
  /** Family and stem. */
  readonly name: string;
  readonly verification: Verification;
  /** Where repetitions were asked for. */
  readonly determinism?: Determinism;
  /** Empty where the verification failed: wrong results have no speed. */
  readonly cases: readonly CaseResult[];
}

/** What `mambalab-bench kernels --json` writes. */
export interface KernelReport {
  readonly schema: 'mambalab-bench/kernels';
  readonly version: 1;
  readonly environment: Environment;
  readonly seed: number;
  readonly quick: boolean;
  /** Choices that were forced, by axis. */
  readonly force: Readonly<Record<string, string>>;
  readonly ceilings: Ceilings;
  readonly kernels: readonly KernelResult[];
  /** False where the run was interrupted. */
  readonly complete?: boolean;
}

/** Bytes that a model occupies on the device. */
export interface ModelMemory {
  readonly weights: number;
  /** Recurrent states. */
  readonly state: number;
  /** KV cache. */
  readonly cache: number;
  readonly scratch: number;
}

export interface PrefillResult {
  readonly tokens: number;
  readonly milliseconds: Summary;
  readonly tokensPerSecond: number;
}

export interface DecodeResult {
  /** Tokens in the context when decoding began. */
  readonly context: number;
  readonly steps: number;
  readonly millisecondsPerToken: Summary;
  readonly tokensPerSecond: number;
  /** Encoding and submitting one token. */
  readonly cpuMicrosecondsPerToken: number;
  /** Of the read ceiling, by the bytes that a token touches. */
  readonly bandwidthPercent: number;
}

/** Texts that were generated at the same time, after their prompts. */
export interface BatchResult {
  /** Texts. */
  readonly batch: number;
  /** Texts that the model decoded in one step: fewer where it has no memory, or no room, for all. */
  readonly together: number;
  /** Tokens of each prompt. */
  readonly context: number;
  /** Tokens of each text that were timed. */
  readonly steps: number;
  /** One token of every text. */
  readonly millisecondsPerStep: Summary;
  /** Of all texts. */
  readonly tokensPerSecond: number;
  /** Of each text. */
  readonly tokensPerSecondEach: number;
  /** Bytes of the recurrent states of all texts. */
  readonly stateBytes: number;
  /** Bytes of the KV caches of all texts, as allocated. */
  readonly cacheBytes: number;
}

/** A text by guesses against the same one without. */
export interface DraftResult {
  /** What guessed. */
  readonly draft: string;
  readonly context: number;
  /** Tokens of the text. */
  readonly steps: number;
  readonly drafted: number;
  readonly accepted: number;
  /** accepted / drafted; 0 where nothing was guessed. */
  readonly acceptance: number;
  readonly millisecondsPerToken: Summary;
  readonly plainMillisecondsPerToken: Summary;
  readonly tokensPerSecond: number;
  readonly plainTokensPerSecond: number;
  /** How many times as fast as without. */
  readonly speedup: number;
}

export interface ModelResult {
  readonly name: string;
  readonly dispatchesPerToken: number;
  readonly bytesPerToken: number;
  readonly memory: ModelMemory;
  readonly prefill: readonly PrefillResult[];
  readonly decode: readonly DecodeResult[];
  /** Where sizes of batches were asked for. */
  readonly batches?: readonly BatchResult[];
  /** Where a draft was given. */
  readonly draft?: DraftResult;
}

/** What `mambalab-bench models --json` writes. */
export interface ModelReport {
  readonly schema: 'mambalab-bench/models';
  readonly version: 1;
  readonly environment: Environment;
  readonly ceilings: Ceilings;
  readonly models: readonly ModelResult[];
  /** False where the run was interrupted. */
  readonly complete?: boolean;
}

/** @throws Error if a value is not a report of version 1 of this schema */
export function parseKernelReport(value: unknown): KernelReport {
  const report = value as Partial<KernelReport> | null;
  if (report === null || typeof report !== 'object' || report.schema !== 'mambalab-bench/kernels') {
    throw new Error('This is no report of mambalab-bench kernels.');
  }
  if (report.version !== 1) throw new Error(`Reports of version 1 are read; found ${String(report.version)}.`);
  if (report.environment === undefined || report.ceilings === undefined || !Array.isArray(report.kernels)) {
    throw new Error('The report lacks its environment, its ceilings or its kernels.');
  }
  return report as KernelReport;
}
