import type { Summary } from '../harness/statistics.ts';
import type { Environment } from '../results.ts';

/** One engine on the prompt that all had. */
export interface MeasuredEngine {
  readonly status: 'measured';
  readonly engine: string;
  readonly version: string;
  /** What it loaded, and how its weights are stored. */
  readonly model: string;
  /** What it ran on, in its own words. */
  readonly device: string;
  /** As this engine counts them. */
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Until the first token. */
  readonly prefillMilliseconds: Summary;
  /** Of the tokens after the first. */
  readonly millisecondsPerToken: Summary;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export interface SkippedEngine {
  readonly status: 'skipped' | 'failed';
  readonly engine: string;
  readonly reason: string;
}

/** What `mambalab-bench peers --json` writes. */
export interface PeersReport {
  readonly schema: 'mambalab-bench/peers';
  readonly version: 1;
  readonly environment: Environment;
  readonly complete: boolean;
  /** What was asked of every engine. */
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly method: readonly string[];
  readonly engines: readonly (MeasuredEngine | SkippedEngine)[];
}
