import type { AnyReport } from '../any_report.ts';
import { isContextReport, isKernelReport, isModelReport, isPeersReport, isRecallReport } from '../any_report.ts';
import type { Chart } from './chart.ts';
import { contextCharts } from './context_charts.ts';
import { kernelCharts, modelCharts, peersCharts } from './other_charts.ts';
import { recallCharts } from './recall_charts.ts';

/** The pictures of one report; `prefix` begins their ids. */
export function chartsOf(report: AnyReport, prefix: string): readonly Chart[] {
  if (isContextReport(report)) return contextCharts(report, prefix);
  if (isKernelReport(report)) return kernelCharts(report, prefix);
  if (isModelReport(report)) return modelCharts(report, prefix);
  if (isPeersReport(report)) return peersCharts(report, prefix);
  if (isRecallReport(report)) return recallCharts(report, prefix);
  return [];
}
