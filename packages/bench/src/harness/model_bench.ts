import type { Device } from '@mambalab/kernels';
import type {
  BatchResult,
  Ceilings,
  DecodeResult,
  DraftResult,
  ModelMemory,
  ModelResult,
  PrefillResult,
} from '../results.ts';
import { summarize } from './statistics.ts';

/** What `decode` took. */
export interface DecodeRun {
  /** From the first submit until the last token was read back. */
  readonly milliseconds: number;
  /** Spent encoding and submitting on the CPU. */
  readonly cpuMilliseconds: number;
}

/** What `decodeTogether` took. */
export interface BatchRun {
  /** Of `steps` tokens of every text, while all were being decoded. */
  readonly milliseconds: number;
  readonly steps: number;
  /** Texts that shared their steps. */
  readonly together: number;
  readonly stateBytes: number;
  readonly cacheBytes: number;
}

/** What `write` took. */
export interface DraftRun {
  /** After the first token. */
  readonly millisecondsPerToken: number;
  readonly drafted: number;
  readonly accepted: number;
}

/** A loaded model as the harness drives it: greedy sampling, tokens read back as in real use. */
export interface MeasurableModel {
  readonly name: string;
  readonly dispatchesPerToken: number;
  /** Bytes of weights, state and KV cache that decoding one token must touch, at the context that prefill reached. */
  readonly bytesPerToken: number;
  /** Forgets the sequence, processes so many tokens and resolves when the GPU is done. */
  prefill(tokens: number): Promise<void>;
  /** Decodes so many tokens from where the sequence stands. */
  decode(steps: number): Promise<DecodeRun>;
  /** Generates so many texts at the same time, each after a prompt of so many tokens. */
  decodeTogether(batch: number, prompt: number, steps: number): Promise<BatchRun>;
  /** Generates one text of so many tokens, with the guesses of the draft that it was opened with, or without. */
  write(prompt: number, steps: number, isDrafted: boolean): Promise<DraftRun>;
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
  /** What guesses: `lookup`, the name of a preset, or the source of a model. */
  readonly draft?: string | undefined;
}

/** Opens models for measuring; the module that knows the models package implements it. */
export type OpenModel = (device: Device, choice: ModelChoice, options: OpenModelOptions) => Promise<MeasurableModel>;

export interface ModelBenchOptions {
  /** Lengths of the prompts; decoding is measured after each. */
  readonly prompts: readonly number[];
  /** Tokens decoded in each sample. */
  readonly steps: number;
  readonly samples: number;
  /** Numbers of texts that are generated at the same time. */
  readonly batches?: readonly number[] | undefined;
  /** What guesses, if anything. */
  readonly draft?: string | undefined;
  /** Called before each sample: keeps the GPU busy until its clocks are up. */
  readonly warmUp?: (() => Promise<void>) | undefined;
}

export const FULL_MODEL_BENCH: ModelBenchOptions = { prompts: [128, 512, 2048], steps: 128, samples: 5 };
export const QUICK_MODEL_BENCH: ModelBenchOptions = { prompts: [32], steps: 8, samples: 2 };

/** Tokens of a prompt where what follows is measured, not the prompt. */
export const SHORT_PROMPT = 32;

/**
 * Most tokens of a text that is generated among others: those that begin first have to wait for the prompts of the
 * others before anything is timed.
 */
export const longestTogether = (batch: number, steps: number): number => 2 * steps + 16 * batch + 64;

/** Tokens of room that a measurement needs. */
export function requiredCapacity({ prompts, steps, batches = [], draft }: ModelBenchOptions): number {
  return Math.max(
    Math.max(...prompts) + 2 * steps,
    ...batches.map((batch) => SHORT_PROMPT + longestTogether(batch, steps)),
    draft === undefined ? 0 : draftPrompt(prompts) + steps + 8,
  );
}

const draftPrompt = (prompts: readonly number[]): number => Math.min(...prompts);

/**
 * Measures prefill and decode of a model after prompts of several lengths, each after one run that is not counted; then
 * texts that are generated together, and with guesses, where that is asked for.
 */
export async function measureModel(
  model: MeasurableModel,
  ceilings: Ceilings,
  options: ModelBenchOptions,
): Promise<ModelResult> {
  const prefill: PrefillResult[] = [];
  const decode: DecodeResult[] = [];
  for (const tokens of options.prompts) {
    const measured = await measurePrompt(model, tokens, ceilings, options);
    prefill.push(measured.prefill);
    decode.push(measured.decode);
  }
  const { name, dispatchesPerToken, bytesPerToken } = model;
  const plain = { name, dispatchesPerToken, bytesPerToken, memory: model.memory(), prefill, decode };
  const batches: BatchResult[] = [];
  for (const batch of options.batches ?? []) batches.push(await measureBatch(model, batch, options));
  const { draft } = options;
  return {
    ...plain,
    ...(batches.length > 0 && { batches }),
    ...(draft !== undefined && { draft: await measureDraft(model, draft, options) }),
  };
}

async function measurePrompt(
  model: MeasurableModel,
  tokens: number,
  ceilings: Ceilings,
  { steps, samples, warmUp }: ModelBenchOptions,
): Promise<{ readonly prefill: PrefillResult; readonly decode: DecodeResult }> {
  await model.prefill(tokens);
  const first = await model.decode(steps);
  const prefills: number[] = [];
  const decodes: number[] = [];
  let cpu = first.cpuMilliseconds;
  for (let sample = 0; sample < samples; sample++) {
    await warmUp?.();
    const started = performance.now();
    await model.prefill(tokens);
    prefills.push(performance.now() - started);
    const run = await model.decode(steps);
    decodes.push(run.milliseconds / steps);
    cpu = Math.min(cpu, run.cpuMilliseconds);
  }
  const milliseconds = summarize(prefills);
  const millisecondsPerToken = summarize(decodes);
  const gigabytesPerSecond = model.bytesPerToken / millisecondsPerToken.median / 1e6;
  return {
    prefill: { tokens, milliseconds, tokensPerSecond: (1000 * tokens) / milliseconds.median },
    decode: {
      context: tokens,
      steps,
      millisecondsPerToken,
      tokensPerSecond: 1000 / millisecondsPerToken.median,
      cpuMicrosecondsPerToken: (1000 * cpu) / steps,
      bandwidthPercent: (100 * gigabytesPerSecond) / ceilings.readGigabytesPerSecond,
    },
  };
}

async function measureBatch(
  model: MeasurableModel,
  batch: number,
  { steps, samples, warmUp }: ModelBenchOptions,
): Promise<BatchResult> {
  // Compiles what the size needs.
  let run = await model.decodeTogether(batch, SHORT_PROMPT, steps);
  const times: number[] = [];
  for (let sample = 0; sample < samples; sample++) {
    await warmUp?.();
    run = await model.decodeTogether(batch, SHORT_PROMPT, steps);
    times.push(run.milliseconds / run.steps);
  }
  const millisecondsPerStep = summarize(times);
  const tokensPerSecondEach = 1000 / millisecondsPerStep.median;
  const { together, stateBytes, cacheBytes } = run;
  const tokensPerSecond = batch * tokensPerSecondEach;
  return {
    batch,
    together,
    context: SHORT_PROMPT,
    steps: run.steps,
    millisecondsPerStep,
    tokensPerSecond,
    tokensPerSecondEach,
    stateBytes,
    cacheBytes,
  };
}

async function measureDraft(
  model: MeasurableModel,
  draft: string,
  { prompts, steps, samples, warmUp }: ModelBenchOptions,
): Promise<DraftResult> {
  const context = draftPrompt(prompts);
  const times = new Map<boolean, number[]>([
    [true, []],
    [false, []],
  ]);
  let guesses: DraftRun | undefined;
  for (let sample = -1; sample < samples; sample++) {
    for (const [isDrafted, taken] of times) {
      await warmUp?.();
      const run = await model.write(context, steps, isDrafted);
      if (isDrafted) guesses = run;
      // The first of each compiles.
      if (sample >= 0) taken.push(run.millisecondsPerToken);
    }
  }
  const { drafted = 0, accepted = 0 } = guesses ?? {};
  const millisecondsPerToken = summarize(times.get(true) ?? []);
  const plainMillisecondsPerToken = summarize(times.get(false) ?? []);
  return {
    draft,
    context,
    steps,
    drafted,
    accepted,
    acceptance: drafted === 0 ? 0 : accepted / drafted,
    millisecondsPerToken,
    plainMillisecondsPerToken,
    tokensPerSecond: 1000 / millisecondsPerToken.median,
    plainTokensPerSecond: 1000 / plainMillisecondsPerToken.median,
    speedup: plainMillisecondsPerToken.median / millisecondsPerToken.median,
  };
}
