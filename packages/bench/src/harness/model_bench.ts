import type { Device } from '@mambalab/kernels';
import type { Ceilings, DecodeResult, ModelMemory, ModelResult, PrefillResult } from '../results.ts';
import { summarize } from './statistics.ts';

/** What `decode` took. */
export interface DecodeRun {
  /** From the first submit until the last token was read back. */
  readonly milliseconds: number;
  /** Spent encoding and submitting on the CPU. */
  readonly cpuMilliseconds: number;
}

/** A loaded model as the harness drives it: one sequence, greedy sampling, tokens read back as in real use. */
export interface MeasurableModel {
  readonly name: string;
  readonly dispatchesPerToken: number;
  /** Bytes of weights, state and KV cache that decoding one token must touch, at the context that prefill reached. */
  readonly bytesPerToken: number;
  /** Forgets the sequence, processes so many tokens and resolves when the GPU is done. */
  prefill(tokens: number): Promise<void>;
  /** Decodes so many tokens from where the sequence stands. */
  decode(steps: number): Promise<DecodeRun>;
  memory(): ModelMemory;
  dispose(): void;
}

/** Which model to open: a folder, file, URL or repository; or a shape by its name, with random weights. */
export type ModelChoice = { readonly source: string } | { readonly preset: string };

export interface OpenModelOptions {
  /** Storage type of the weights, such as `f16` or `q4`; the source's own when absent. */
  readonly dtype?: string;
  /** Tokens that the sequence has room for. */
  readonly capacity: number;
}

/** Opens models for measuring; the module that knows the models package implements it. */
export type OpenModel = (device: Device, choice: ModelChoice, options: OpenModelOptions) => Promise<MeasurableModel>;

export interface ModelBenchOptions {
  /** Lengths of the prompts; decoding is measured after each. */
  readonly prompts: readonly number[];
  /** Tokens decoded in each sample. */
  readonly steps: number;
  readonly samples: number;
}

export const FULL_MODEL_BENCH: ModelBenchOptions = { prompts: [128, 512, 2048], steps: 128, samples: 5 };
export const QUICK_MODEL_BENCH: ModelBenchOptions = { prompts: [32], steps: 8, samples: 2 };

/** Tokens of room that a measurement needs. */
export function requiredCapacity({ prompts, steps }: ModelBenchOptions): number {
  return Math.max(...prompts) + 2 * steps;
}

/** Measures prefill and decode of a model after prompts of several lengths, each after one run that is not counted. */
export async function measureModel(
  model: MeasurableModel,
  ceilings: Ceilings,
  options: ModelBenchOptions,
): Promise<ModelResult> {
  const prefill: PrefillResult[] = [];
  const decode: DecodeResult[] = [];
  for (const tokens of options.prompts) {
    await model.prefill(tokens);
    const warmUp = await model.decode(options.steps);
    const prefills: number[] = [];
    const decodes: number[] = [];
    let cpu = warmUp.cpuMilliseconds;
    for (let sample = 0; sample < options.samples; sample++) {
      const started = performance.now();
      await model.prefill(tokens);
      prefills.push(performance.now() - started);
      const run = await model.decode(options.steps);
      decodes.push(run.milliseconds / options.steps);
      cpu = Math.min(cpu, run.cpuMilliseconds);
    }
    const milliseconds = summarize(prefills);
    prefill.push({ tokens, milliseconds, tokensPerSecond: (1000 * tokens) / milliseconds.median });
    const millisecondsPerToken = summarize(decodes);
    const gigabytesPerSecond = model.bytesPerToken / millisecondsPerToken.median / 1e6;
    decode.push({
      context: tokens,
      steps: options.steps,
      millisecondsPerToken,
      tokensPerSecond: 1000 / millisecondsPerToken.median,
      cpuMicrosecondsPerToken: (1000 * cpu) / options.steps,
      bandwidthPercent: (100 * gigabytesPerSecond) / ceilings.readGigabytesPerSecond,
    });
  }
  const { name, dispatchesPerToken, bytesPerToken } = model;
  return { name, dispatchesPerToken, bytesPerToken, memory: model.memory(), prefill, decode };
}
