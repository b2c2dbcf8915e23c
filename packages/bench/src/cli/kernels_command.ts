import { writeFileSync } from 'node:fs';
import type { Device } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { measureCeilings } from '../harness/ceilings.ts';
import type { KernelBench } from '../harness/kernel_bench.ts';
import { allPassed, runKernel, selectBenches } from '../harness/run_kernels.ts';
import type { TimeOptions } from '../harness/time_kernel.ts';
import { FULL_TIMING, QUICK_TIMING } from '../harness/timing.ts';
import { kernelBenches } from '../kernels/index.ts';
import type { CaseResult, Ceilings, Environment, KernelReport, KernelResult } from '../results.ts';
import { describeEnvironment } from './environment.ts';
import type { CommonOptions, KernelsOptions } from './options.ts';
import type { Column } from './table.ts';
import { formatBytes, formatChoices, formatHeader, formatNumber, formatPercent, formatRow } from './table.ts';

/** A mistake in the call, told without a stack. */
export class UsageError extends Error {}

/** `mambalab-bench kernels`: verifies, times, prints, writes. @returns whether everything passed */
export async function benchKernels(filter: string | undefined, options: KernelsOptions): Promise<boolean> {
  const benches = selectBenches(kernelBenches, filter);
  if (benches.length === 0) {
    const names = kernelBenches.map(({ name }) => name).join(', ');
    throw new UsageError(`No kernel's name holds '${filter ?? ''}'. There are: ${names}.`);
  }
  const device = await requestDevice({ toggles: options.toggles });
  try {
    if (options.simd === 'subgroups' && !device.capabilities.features.has('subgroups')) {
      throw new UsageError('This device has no subgroups.');
    }
    const force = { ...options.force, ...(options.simd === undefined ? {} : { simd: options.simd }) };
    const quick = options.quick === true;
    const environment = describeEnvironment(device, options.toggles);
    const time = { ...timeOptions(device, options), force };
    const ceilings = await measureCeilings(device, { ...time, force: {} });
    console.log(`${describe(environment, ceilings)}\nseed ${time.seed}\n`);

    const columns = tableColumns(benches);
    console.log(formatHeader(columns));
    const kernels: KernelResult[] = [];
    for (const bench of benches) {
      const onCase = (name: string, result: CaseResult): void =>
        console.log(formatRow(columns, [name, ...caseCells(result)]));
      const { repeats, time: timed } = options;
      const suite = {
        ceilings,
        quick,
        all: options.all === true,
        timed,
        ...(repeats === undefined ? {} : { repeats }),
      };
      const result = await runKernel(device, bench, { ...time, ...suite, onCase });
      if (!result.verification.passed) console.log(`${bench.name}: WRONG: ${result.verification.reason}`);
      if (result.determinism?.equal === false) {
        console.log(
          `${bench.name}: UNSTABLE: repetition ${result.determinism.repeat} differs in value ${result.determinism.value}`,
        );
      }
      kernels.push(result);
    }

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
    const report: KernelReport = {
      schema: 'mambalab-bench/kernels',
      version: 1,
      environment,
      seed: time.seed,
      quick,
      force,
      ceilings,
      kernels,
    };
    writeReport(options.json, report);
    return passed;
  } finally {
    device.dispose();
  }
}

/** Memory of a case unless the caller says otherwise. */
const DEFAULT_MEMORY = { hardware: 8 * 2 ** 30, software: 2 ** 29 };

export function timeOptions(device: Device, options: CommonOptions): TimeOptions & { readonly seed: number } {
  const { software } = device.capabilities;
  const memory = options.memory === undefined ? undefined : options.memory * 2 ** 30;
  const timing = options.quick === true ? QUICK_TIMING : FULL_TIMING;
  return {
    // A CPU has no clocks to warm up, and a few repetitions of it take long.
    timing: software ? { ...timing, warmUpMilliseconds: 0, budgetMilliseconds: timing.budgetMilliseconds / 3 } : timing,
    memory: memory ?? (software ? DEFAULT_MEMORY.software : DEFAULT_MEMORY.hardware),
    seed: options.seed ?? (Date.now() % 2 ** 31) + 1,
  };
}

export function writeReport(file: string | undefined, report: unknown): void {
  if (file === undefined) return;
  writeFileSync(file, `${JSON.stringify(report, undefined, 1)}\n`);
  console.log(`written: ${file}`);
}

/** The device and its ceilings, in a few lines. */
export function describe(environment: Environment, ceilings: Ceilings): string {
  const { device, toggles, packages, commit, runtime } = environment;
  const versions = Object.entries(packages).map(([name, version]) => `${name} ${version}`);
  return [
    `${device.name || device.vendor}, ${device.driver || 'driver unknown'}${device.software ? ', software' : ''}; toggles ${toggles}`,
    [runtime, ...versions, ...(commit === undefined ? [] : [`commit ${commit.slice(0, 9)}`])].join(', '),
    `ceilings: read ${formatNumber(ceilings.readGigabytesPerSecond)} GB/s, copy ${formatNumber(ceilings.copyGigabytesPerSecond)} GB/s, ` +
      `f32 fma ${formatNumber(ceilings.fmaTeraflops)} TFLOP/s, dispatch ${formatNumber(ceilings.dispatchMicroseconds)} us`,
  ].join('\n');
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
