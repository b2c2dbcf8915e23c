import type { ContextReport } from './context/results.ts';
import type { RecallReport } from './evaluation/results.ts';
import type { PeersReport } from './peers/results.ts';
import type { Environment, KernelReport, ModelReport } from './results.ts';

/** Results of a command that has its own type elsewhere. */
export interface OtherReport {
  readonly schema: `mambalab-bench/${string}`;
  readonly version: number;
  readonly environment: Environment;
}

export type AnyReport = KernelReport | ModelReport | ContextReport | PeersReport | RecallReport | OtherReport;

export const isKernelReport = (report: AnyReport): report is KernelReport => report.schema === 'mambalab-bench/kernels';
export const isModelReport = (report: AnyReport): report is ModelReport => report.schema === 'mambalab-bench/models';
export const isContextReport = (report: AnyReport): report is ContextReport =>
  report.schema === 'mambalab-bench/context';
export const isPeersReport = (report: AnyReport): report is PeersReport => report.schema === 'mambalab-bench/peers';
export const isRecallReport = (report: AnyReport): report is RecallReport => report.schema === 'mambalab-bench/recall';
