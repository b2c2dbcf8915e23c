import type { RecallCell } from '../src/evaluation/recall.ts';

/** What is drawn of a `RecallReport`. */
export interface DrawnReport {
  readonly schema: string;
  readonly version: number;
  readonly environment: { readonly device: { readonly name: string } };
  readonly task: string;
  readonly unit: string;
  readonly models: readonly { readonly name: string; readonly cells: readonly RecallCell[] }[];
}

/** @param labels what tells the lines of several reports apart */
export function plotRecall(reports: readonly DrawnReport[], labels?: readonly (string | undefined)[]): string;
