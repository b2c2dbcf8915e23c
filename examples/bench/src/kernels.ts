import type { CaseResult, Environment, KernelReport, KernelResult } from '@mambalab/bench';
import {
  describeEnvironment,
  environmentLines,
  formatChoices,
  formatNumber,
  formatPercent,
  kernelBenches,
  reportKernels,
  selectBenches,
  timeOptions,
} from '@mambalab/bench';
import type { Device } from '@mambalab/kernels';
import type { Cell } from './page.ts';
import { element, Rows } from './page.ts';

const rows = new Rows('kernels');
const lines: HTMLElement = element('environment', HTMLDivElement);

/** Where this page measures. */
export function environmentOf(device: Device): Environment {
  const { platform, userAgent } = navigator;
  return describeEnvironment(device, { platform, runtime: userAgent, packages: {}, toggles: 'default' });
}

export function showEnvironment(environment: Environment, report?: KernelReport): void {
  const paragraphs = environmentLines(environment, report?.ceilings).map((line) => {
    const paragraph = document.createElement('p');
    paragraph.textContent = line;
    return paragraph;
  });
  lines.replaceChildren(...paragraphs);
}

/** How a run of the suite is asked for. */
export interface Request {
  readonly filter: string;
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly onStatus: (text: string) => void;
}

/**
 * Runs the suite and fills the table as cases end.
 *
 * @returns the report, of what was measured when the run was stopped; undefined where no kernel has such a name
 */
export async function runSuite(device: Device, request: Request): Promise<KernelReport | undefined> {
  const { filter, quick, signal, onStatus } = request;
  const benches = selectBenches(kernelBenches, filter);
  rows.clear();
  if (benches.length === 0) {
    onStatus(`No kernel’s name holds “${filter}”.`);
    return undefined;
  }
  const environment = environmentOf(device);
  onStatus('Measuring what this GPU reaches at best …');
  const report = await reportKernels(device, benches, {
    ...timeOptions(device.capabilities, { quick }),
    environment,
    quick,
    signal,
    onStart: (begun) => showEnvironment(environment, begun),
    onKernel: (name) => onStatus(`Checking and timing ${name} …`),
    onCase: (name, result) => rows.add([{ text: name }, ...caseCells(result)]),
    onResult: ({ name, verification }) => {
      if (verification.passed) return;
      rows.add([{ text: name }, { text: `wrong: ${verification.reason}`, span: 7, tone: 'warning' }]);
    },
  });
  onStatus(`${signal.aborted ? 'Stopped. ' : ''}${summary(report.kernels)}`);
  return report;
}

function caseCells(result: CaseResult): Cell[] {
  if (result.status !== 'measured') {
    const tone = result.status === 'failed' ? 'warning' : 'quiet';
    return [{ text: result.label }, { text: `${result.status}: ${result.reason}`, span: 6, tone }];
  }
  const { bandwidthPercent, fmaPercent } = result;
  return [
    { text: result.label },
    { text: formatNumber(result.microseconds.median) },
    { text: formatNumber(result.gigabytesPerSecond) },
    { text: formatPercent(bandwidthPercent), share: bandwidthPercent / 100 },
    { text: formatNumber(result.teraflops) },
    { text: formatPercent(fmaPercent), share: fmaPercent / 100 },
    { text: formatChoices(result.dispatches), tone: 'quiet' },
  ];
}

function summary(kernels: readonly KernelResult[]): string {
  const verified = kernels.filter(({ verification }) => verification.passed).length;
  const cases = kernels.flatMap((kernel) => kernel.cases);
  const count = (status: CaseResult['status']): number => cases.filter((result) => result.status === status).length;
  const parts = (['measured', 'skipped', 'failed'] as const)
    .filter((status) => count(status) > 0)
    .map((status) => `${count(status)} ${status}`);
  return `${verified} of ${kernels.length} kernels verified; cases: ${parts.join(', ') || 'none'}.`;
}
