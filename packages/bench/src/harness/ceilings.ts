import type { Device } from '@mambalab/kernels';
import { copyBench, copyCase } from '../kernels/ceiling/copy.bench.ts';
import { fmaBench, fmaCase } from '../kernels/ceiling/fma.bench.ts';
import { readBench, readCase } from '../kernels/ceiling/read.bench.ts';
import type { Ceilings } from '../results.ts';
import type { KernelCase } from './kernel_bench.ts';
import type { TimeOptions } from './time_kernel.ts';
import { timeKernel } from './time_kernel.ts';
import { verifyKernel } from './verify.ts';

/**
 * Measures what trivial kernels reach on this device: 1 GiB read, 512 MiB copied, 69 GFLOP of multiply-adds, one small
 * dispatch; on software adapters a hundredth of that.
 *
 * @throws Error if one of those kernels computes something wrong
 */
export async function measureCeilings(device: Device, options: TimeOptions): Promise<Ceilings> {
  for (const bench of [readBench, copyBench, fmaBench]) {
    const verification = await verifyKernel(device, bench, { seed: options.seed });
    if (!verification.passed)
      throw new Error(`The kernel ${bench.name} is wrong on this device: ${verification.reason}.`);
  }
  const { software, limits } = device.capabilities;
  // A power of two below what can be bound, so that whole tiles fit.
  const bindable = 2 ** Math.floor(Math.log2(Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize)));
  const largest = Math.min(bindable, software ? 2 ** 24 : 2 ** 30, options.memory / 2);
  // The best sample, not the median: a ceiling is what the device can do when nothing disturbs it.
  const best = async (kernelCase: KernelCase): Promise<number> =>
    (await timeKernel(device, kernelCase, options)).microseconds.min;

  const read = readCase(largest);
  const copy = copyCase(largest / 2);
  const fma = software ? fmaCase(2 ** 12, 256) : fmaCase(2 ** 20, 1024);
  return {
    readGigabytesPerSecond: read.bytes / (await best(read)) / 1e3,
    copyGigabytesPerSecond: copy.bytes / (await best(copy)) / 1e3,
    fmaTeraflops: fma.flops / (await best(fma)) / 1e6,
    dispatchMicroseconds: await best(copyCase(1)),
  };
}
