import type { Device } from '@mambalab/kernels';
import { OutOfMemoryError } from '@mambalab/kernels';
import type { CaseResult, Ceilings, Environment, KernelReport, KernelResult } from '../results.ts';
import { measureCeilings } from './ceilings.ts';
import { repeatKernel } from './determinism.ts';
import { Heater } from './heater.ts';
import type { KernelBench, KernelCase } from './kernel_bench.ts';
import type { TimeOptions } from './time_kernel.ts';
import { rateCase, timeKernel } from './time_kernel.ts';
import { verifyKernel } from './verify.ts';

export interface SuiteOptions extends TimeOptions {
  readonly ceilings: Ceilings;
  /** Also the cases that are too much work for a software adapter. */
  readonly all?: boolean;
  readonly quick?: boolean;
  /** Repetitions on the same inputs that must agree in every bit; none when absent. */
  readonly repeats?: number;
  /** Whether cases are timed; true when absent. */
  readonly timed?: boolean;
  /** Once aborted, ends the run after the case under way; what was measured stays. */
  readonly signal?: AbortSignal;
  /** Called after each case. */
  readonly onCase?: (kernel: string, result: CaseResult) => void;
}

export interface ReportOptions extends Omit<SuiteOptions, 'ceilings'> {
  readonly environment: Environment;
  /** Called once, before the first kernel, with a report that holds no kernel yet. */
  readonly onStart?: (report: KernelReport) => void;
  /** Called before the verification of each kernel. */
  readonly onKernel?: (kernel: string) => void;
  /** Called after the last case of each kernel. */
  readonly onResult?: (result: KernelResult) => void;
}

/** Work of one call that a software adapter does in about a second, or in a tenth of it. */
const SOFTWARE_WORK = { flops: 2e9, bytes: 64e6 };
const QUICK_SOFTWARE_WORK = { flops: 2e8, bytes: 8e6 };

/** The benches whose name holds `filter`. */
export function selectBenches(benches: readonly KernelBench[], filter = ''): readonly KernelBench[] {
  return benches.filter(({ name }) => name.includes(filter));
}

/** Measures the ceilings, then runs one kernel after the other: all that `mambalab-bench kernels` does. */
export async function reportKernels(
  device: Device,
  benches: readonly KernelBench[],
  options: ReportOptions,
): Promise<KernelReport> {
  const heater = options.heater ?? (await Heater.create(device));
  try {
    return await reportWith(device, benches, { ...options, heater });
  } finally {
    if (heater !== options.heater) heater?.dispose();
  }
}

async function reportWith(
  device: Device,
  benches: readonly KernelBench[],
  options: ReportOptions,
): Promise<KernelReport> {
  const { environment, seed, quick = false, force = {}, signal } = options;
  const ceilings = await measureCeilings(device, { ...options, force: {} });
  const kernels: KernelResult[] = [];
  const schema = 'mambalab-bench/kernels';
  const report: KernelReport = { schema, version: 1, environment, seed, quick, force, ceilings, kernels };
  options.onStart?.(report);
  for (const bench of benches) {
    if (signal?.aborted === true) break;
    options.onKernel?.(bench.name);
    const result = await runKernel(device, bench, { ...options, ceilings });
    options.onResult?.(result);
    kernels.push(result);
  }
  return report;
}

/**
 * Verifies one kernel, then times its cases. A kernel whose results are wrong is not timed; a case that fails or does not
 * fit says so and does not stop the others.
 */
export async function runKernel(device: Device, bench: KernelBench, options: SuiteOptions): Promise<KernelResult> {
  const verification = await verifyKernel(device, bench, options);
  if (!verification.passed) return { name: bench.name, verification, cases: [] };
  const { repeats } = options;
  const determinism =
    repeats === undefined ? {} : { determinism: await repeatKernel(device, bench, { ...options, repeats }) };
  const cases: CaseResult[] = [];
  if (options.timed === false) return { name: bench.name, verification, ...determinism, cases };
  for (const kernelCase of bench.cases) {
    if (options.signal?.aborted === true) break;
    const result = await runCase(device, kernelCase, options);
    cases.push(result);
    options.onCase?.(bench.name, result);
  }
  return { name: bench.name, verification, ...determinism, cases };
}

async function runCase(device: Device, kernelCase: KernelCase, options: SuiteOptions): Promise<CaseResult> {
  const { label, flops, bytes } = kernelCase;
  const work = options.quick === true ? QUICK_SOFTWARE_WORK : SOFTWARE_WORK;
  const heavy = flops > work.flops || bytes > work.bytes;
  if (device.capabilities.software && heavy && options.all !== true) {
    return { status: 'skipped', label, reason: 'too much work for a software adapter' };
  }
  try {
    return rateCase(await timeKernel(device, kernelCase, options), options.ceilings);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { status: error instanceof OutOfMemoryError ? 'skipped' : 'failed', label, reason };
  }
}

/** Whether every verification passed, repetitions agreed and no case failed. */
export function allPassed(results: readonly KernelResult[]): boolean {
  return results.every(
    ({ verification, determinism, cases }) =>
      verification.passed && determinism?.equal !== false && cases.every(({ status }) => status !== 'failed'),
  );
}
