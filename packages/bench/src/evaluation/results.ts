import type { Environment } from '../results.ts';
import type { Metric } from './metrics.ts';
import type { RecallCell } from './recall.ts';
import type { TaskResult } from './run_task.ts';

/** What `mambalab-bench phonebook --json` writes. */
export interface RecallReport {
  readonly schema: 'mambalab-bench/recall';
  readonly version: 1;
  readonly environment: Environment;
  /** False where it was interrupted: what is there is whole, but not everything. */
  readonly complete: boolean;
  readonly task: string;
  /** What sizes are. */
  readonly unit: 'entries' | 'tokens';
  readonly seed: number;
  /** Examples in front of each question; in books of the form of training always two, where there is room. */
  readonly shots: number;
  readonly perBook: number;
  readonly models: readonly RecallModel[];
}

export interface RecallModel {
  readonly name: string;
  /** Storage of matrices, as asked for. */
  readonly dtype: string;
  readonly cells: readonly RecallCell[];
}

/** What `mambalab-bench eval --json` writes. */
export interface EvaluationReport {
  readonly schema: 'mambalab-bench/eval';
  readonly version: 1;
  readonly environment: Environment;
  /** False where it was interrupted: what is there are the first documents. */
  readonly complete: boolean;
  readonly task: string;
  readonly model: string;
  readonly dtype: string;
  readonly fewShot: number;
  readonly seed: number;
  /** A row for each file of documents. */
  readonly files: readonly TaskResult[];
  /** Over all documents. */
  readonly metrics: readonly Metric[];
}
