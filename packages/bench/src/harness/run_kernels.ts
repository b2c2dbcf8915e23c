import type { Device } from '@mambalab/kernels';
import { OutOfMemoryError } from '@mambalab/kernels';
import type { CaseResult, Ceilings, KernelResult } from '../results.ts';
import { repeatKernel } from './determinism.ts';
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
  /** Called after each case. */
  readonly onCase?: (kernel: string, result: CaseResult) => void;
}

/** Work of one call that a software adapter does in about a second, or in a tenth of it. */
const SOFTWARE_WORK = { flops: 2e9, bytes: 64e6 };
const QUICK_SOFTWARE_WORK = { flops: 2e8, bytes: 8e6 };

/** The benches whose name holds `filter`. */
export function selectBenches(benches: readonly KernelBench[], filter = ''): readonly KernelBench[] {
  return benches.filter(({ name }) => name.includes(filter));
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
