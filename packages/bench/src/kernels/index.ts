import type { KernelBench } from '../harness/kernel_bench.ts';
import { copyBench } from './ceiling/copy.bench.ts';
import { fmaBench } from './ceiling/fma.bench.ts';
import { readBench } from './ceiling/read.bench.ts';
import { rmsNormBench } from './norm/rms_norm.bench.ts';

/** The benchmark of every kernel, ceilings first. */
export const kernelBenches: readonly KernelBench[] = [readBench, copyBench, fmaBench, rmsNormBench];
