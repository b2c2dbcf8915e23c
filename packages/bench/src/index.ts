export type { KernelBench, KernelCase, KernelCheck, RandomInput } from './harness/kernel_bench.ts';
export { input, values } from './harness/kernel_bench.ts';
export { Random } from './harness/random.ts';
export type { Summary } from './harness/statistics.ts';
export { quantile, summarize } from './harness/statistics.ts';
export type { RotationLimits } from './harness/rotation.ts';
export { rotationCount } from './harness/rotation.ts';
export type { MeasurePasses, Samples, TimingOptions } from './harness/timing.ts';
export { FULL_TIMING, QUICK_TIMING, samplePasses } from './harness/timing.ts';
export type { TimeRequest } from './harness/time_options.ts';
export { timeOptions } from './harness/time_options.ts';
export type { Host } from './harness/environment.ts';
export { describeEnvironment } from './harness/environment.ts';
export type { HostInput } from './harness/inputs.ts';
export { hostInput } from './harness/inputs.ts';
export type { RepeatOptions } from './harness/determinism.ts';
export { repeatKernel } from './harness/determinism.ts';
export type { VerifyOptions } from './harness/verify.ts';
export { compareValues, verifyKernel } from './harness/verify.ts';
export type { CaseTime, TimeOptions } from './harness/time_kernel.ts';
export { bandwidthCeiling, rateCase, timeKernel } from './harness/time_kernel.ts';
export { measureCeilings } from './harness/ceilings.ts';
export type { ReportOptions, SuiteOptions } from './harness/run_kernels.ts';
export { allPassed, reportKernels, runKernel, selectBenches } from './harness/run_kernels.ts';
export type {
  DecodeRun,
  MeasurableModel,
  ModelBenchOptions,
  ModelChoice,
  OpenModel,
  OpenModelOptions,
} from './harness/model_bench.ts';
export { FULL_MODEL_BENCH, measureModel, QUICK_MODEL_BENCH, requiredCapacity } from './harness/model_bench.ts';
export * from './format.ts';
export * from './results.ts';
export type { EvaluationReport, RecallModel, RecallReport } from './evaluation/results.ts';
export { kernelBenches } from './kernels/index.ts';
export type * from './context/results.ts';
export { ARCHITECTURES } from './context/results.ts';
export { crossing, speedups } from './context/speedups.ts';
export type * from './peers/results.ts';
export * from './any_report.ts';
export type { Change, Comparison, Verdict } from './compare/compare.ts';
export { compareReports, isWorse } from './compare/compare.ts';
export type { Measurement } from './compare/measurements.ts';
export { measurementsOf } from './compare/measurements.ts';
