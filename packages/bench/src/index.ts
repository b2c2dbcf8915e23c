export type { KernelBench, KernelCase, KernelCheck, RandomInput } from './harness/kernel_bench.ts';
export { Random } from './harness/random.ts';
export type { Summary } from './harness/statistics.ts';
export { quantile, summarize } from './harness/statistics.ts';
export type { RotationLimits } from './harness/rotation.ts';
export { rotationCount } from './harness/rotation.ts';
export type { TimingOptions } from './harness/timing.ts';
export { FULL_TIMING, QUICK_TIMING } from './harness/timing.ts';
export type { RepeatOptions } from './harness/determinism.ts';
export { repeatKernel } from './harness/determinism.ts';
export type { VerifyOptions } from './harness/verify.ts';
export { compareValues, verifyKernel } from './harness/verify.ts';
export type { CaseTime, TimeOptions } from './harness/time_kernel.ts';
export { bandwidthCeiling, rateCase, timeKernel } from './harness/time_kernel.ts';
export { measureCeilings } from './harness/ceilings.ts';
export type { SuiteOptions } from './harness/run_kernels.ts';
export { allPassed, runKernel, selectBenches } from './harness/run_kernels.ts';
export type {
  DecodeRun,
  MeasurableModel,
  ModelBenchOptions,
  ModelChoice,
  OpenModel,
  OpenModelOptions,
} from './harness/model_bench.ts';
export { FULL_MODEL_BENCH, measureModel, QUICK_MODEL_BENCH, requiredCapacity } from './harness/model_bench.ts';
export * from './results.ts';
export { kernelBenches } from './kernels/index.ts';
