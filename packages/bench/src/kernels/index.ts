import type { KernelBench } from '../harness/kernel_bench.ts';
import { copyBench } from './ceiling/copy.bench.ts';
import { fmaBench } from './ceiling/fma.bench.ts';
import { readBench } from './ceiling/read.bench.ts';
import { gatedRmsNormBench } from './norm/gated_rms_norm.bench.ts';
import { rmsNormBench } from './norm/rms_norm.bench.ts';
import { advanceBench } from './token/advance.bench.ts';
import { embedBench } from './token/embed.bench.ts';
import { sampleBench } from './token/sample.bench.ts';

/** The benchmark of every kernel, ceilings first. */
export const kernelBenches: readonly KernelBench[] = [
  readBench,
  copyBench,
  fmaBench,
  rmsNormBench,
  gatedRmsNormBench,
  embedBench,
  sampleBench,
  advanceBench,
];
