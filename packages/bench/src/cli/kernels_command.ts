import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { requestDevice } from '@mambalab/kernels/node';
import { environmentLines, formatBytes, formatChoices, formatNumber, formatPercent } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import type { KernelBench } from '../harness/kernel_bench.ts';
import { allPassed, reportKernels, selectBenches } from '../harness/run_kernels.ts';
import type { TimeRequest } from '../harness/time_options.ts';
import { timeOptions } from '../harness/time_options.ts';
import { kernelBenches } from '../kernels/index.ts';
import type { CaseResult } from '../results.ts';
import { describeNode } from './environment.ts';
import { onInterrupt } from './interrupt.ts';
import { unknownName } from '../near.ts';
import type { CommonOptions, KernelsOptions } from './options.ts';
import { startProgress } from './progress.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

/** A mistake in the call, told without a stack. */
export class UsageError extends Error {}

/** `mambalab-bench kernels`: verifies, times, prints, writes. @returns whether everything passed */
export async function benchKernels(filter: string | undefined, options: KernelsOptions): Promise<boolean> {
  const benches = selectBenches(kernelBenches, filter);
  if (benches.length === 0) {
    const names = kernelBenches.map(({ name }) => name);
    throw new UsageError(unknownName('kernel', filter ?? '', names));
  }
  const device = await requestDevice({ toggles: options.toggles });
  using interrupt = onInterrupt();
  using progress = startProgress();
  let done = 0;
  try {
    if (options.simd === 'subgroups' && !device.capabilities.features.has('subgroups')) {
      throw new UsageError('This device has no subgroups.');
    }
    const { repeats } = options;
    const columns = tableColumns(benches);
    const report = await reportKernels(device, benches, {
      ...timeOptions(device.capabilities, timeRequest(options)),
      environment: describeEnvironment(device, describeNode(options.toggles)),
      force: { ...options.force, ...(options.simd === undefined ? {} : { simd: options.simd }) },
      quick: options.quick === true,
      all: options.all === true,
      timed: options.time,
      ...(repeats === undefined ? {} : { repeats }),
      signal: interrupt.signal,
      onStart: ({ environment, ceilings, seed }) => {
        for (const line of environmentLines(environment, ceilings)) progress.line(line);
        progress.line(`seed ${seed}\n\n${formatHeader(columns)}`);
      },
      onKernel: (name) => progress.stage(name, done, benches.length),
      onCase: (name, result) => progress.line(formatRow(columns, [name, ...caseCells(result)])),
      onResult: ({ name, verification, determinism }) => {
        done += 1;
        if (!verification.passed) progress.line(`${name}: WRONG: ${verification.reason}`);
        if (determinism?.equal === false) {
          progress.line(`${name}: UNSTABLE: repetition ${determinism.repeat} differs in value ${determinism.value}`);
        }
      },
    });
    progress[Symbol.dispose]();
    const { kernels } = report;
    const passed = allPassed(kernels);
    const wrong = kernels.filter(({ verification }) => !verification.passed).length;
    const failed = kernels.flatMap(({ cases }) => cases).filter(({ status }) => status === 'failed').length;
    const unstable = kernels.filter(({ determinism }) => determinism?.equal === false).length;
    if (options.repeats !== undefined) {
      console.log(
        `\n${kernels.length - wrong - unstable} of ${kernels.length} kernels gave the same bits ${options.repeats} times`,
      );
    }
    console.log(`\n${kernels.length - wrong} of ${kernels.length} kernels verified, ${failed} cases failed`);
    writeReport(options.json, { ...report, complete: !interrupt.signal.aborted });
    return passed;
  } finally {
    device.dispose();
  }
}

/** Options of the command line in the units of the harness. */
export function timeRequest({ quick, memory, seed }: CommonOptions): TimeRequest {
  return { quick, memory: memory === undefined ? undefined : memory * 2 ** 30, seed };
}

/** Writes a report that more may be added to. */
export function saveReport(file: string | undefined, report: unknown): void {
  if (file === undefined) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(report, undefined, 1)}\n`);
}

export function writeReport(file: string | undefined, report: unknown): void {
  if (file === undefined) return;
  saveReport(file, report);
  console.log(`written: ${file}`);
}

function tableColumns(benches: readonly KernelBench[]): Column[] {
  const longest = (texts: readonly string[]): number => Math.max(6, ...texts.map((text) => text.length));
  const number = (title: string, width: number): Column => ({ title, width, align: 'right' });
  return [
    { title: 'kernel', width: longest(benches.map(({ name }) => name)) },
    { title: 'case', width: longest(benches.flatMap(({ cases }) => cases.map(({ label }) => label))) },
    number('us', 9),
    number('min', 9),
    number('spread', 7),
    number('GB/s', 8),
    number('of max', 8),
    number('TFLOP/s', 8),
    number('of fma', 8),
    number('bytes', 9),
    { title: 'variant', width: 10 },
  ];
}

function caseCells(result: CaseResult): string[] {
  if (result.status !== 'measured') return [result.label, `${result.status}: ${result.reason}`];
  const { microseconds } = result;
  return [
    result.label,
    formatNumber(microseconds.median),
    formatNumber(microseconds.min),
    formatPercent(100 * microseconds.spread),
    formatNumber(result.gigabytesPerSecond),
    formatPercent(result.bandwidthPercent),
    formatNumber(result.teraflops),
    formatPercent(result.fmaPercent),
    formatBytes(result.bytes),
    formatChoices(result.dispatches),
  ];
}
