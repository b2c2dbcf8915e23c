import { MambalabError, OutOfMemoryError } from '@mambalab/kernels';
import { formatBytes } from '../format.ts';
import type { DecodeRun } from '../harness/model_bench.ts';
import type { Heater } from '../harness/heater.ts';
import { summarize } from '../harness/statistics.ts';
import type { Ceilings } from '../results.ts';
import type { ContextModel, ContextShape } from './model.ts';
import type { Agreement, DecodePoint, PrefillPoint, SkippedPoint } from './results.ts';

/** How long one point may take, and how often it is sampled. */
export interface ContextTiming {
  /** Tokens decoded in each sample. */
  readonly steps: number;
  readonly samples: number;
  /** Samples beyond the third are left out once a point took this long. */
  readonly pointMilliseconds: number;
  readonly warmUpMilliseconds: number;
  /** Prompts that would take longer are not processed. */
  readonly prefillMilliseconds: number;
}

/** What every point of a run has in common. */
export interface PointSettings {
  readonly timing: ContextTiming;
  readonly ceilings: Ceilings;
  /** Bytes that everything together may take on the device. */
  readonly memory: number;
  /** Bytes that are allocated now. */
  readonly allocated: () => number;
  readonly heater?: Heater | undefined;
  readonly signal?: AbortSignal | undefined;
}

const LEAST_SAMPLES = 3;
const WARM_UP_STEPS = 8;

/** Decodes the last tokens of a context that is filled with random values. */
export async function measureDecode(
  model: ContextModel,
  context: number,
  batch: number,
  settings: PointSettings,
): Promise<DecodePoint | SkippedPoint> {
  const most = Math.min(settings.timing.steps, Math.floor(context / 2));
  const shape = { context, batch, steps: most };
  const needed = model.bytesFor(shape);
  const neededBytes = settings.allocated() + needed.state + needed.cache;
  if (neededBytes > settings.memory) {
    return skippedForMemory(context, batch, neededBytes, settings.memory);
  }
  return await unlessRefused(context, batch, async () => {
    const filled = await model.fillContext(shape);
    try {
      const { perStep, cpu, steps } = await sampleSteps((count) => filled.decode(count), most, settings);
      const millisecondsPerStep = summarize(perStep);
      const bytesPerStep = touchedBytes(model, { ...shape, steps });
      const { state, cache } = filled.bytes;
      return {
        status: 'measured',
        context,
        batch,
        steps,
        millisecondsPerStep,
        tokensPerSecond: (1000 * batch) / millisecondsPerStep.median,
        cpuMicrosecondsPerStep: 1000 * cpu,
        bytesPerStep,
        bandwidthPercent: percentOfRead(bytesPerStep, millisecondsPerStep.median, settings.ceilings),
        memory: { weights: model.weightsBytes, state, cache },
      };
    } finally {
      await filled.dispose();
    }
  });
}

/** Weights once, states read and written, caches as far as they are filled in the middle of the steps. */
function touchedBytes(model: ContextModel, { context, batch, steps }: ContextShape): number {
  const cache = model.kvBytesPerToken * (context - steps / 2);
  return model.weightsReadBytes + batch * (2 * model.stateBytes + cache);
}

const percentOfRead = (bytes: number, milliseconds: number, { readGigabytesPerSecond }: Ceilings): number =>
  (100 * bytes) / milliseconds / 1e6 / readGigabytesPerSecond;

interface StepSamples {
  /** Milliseconds, one number a sample. */
  readonly perStep: readonly number[];
  /** Steps in each sample. */
  readonly steps: number;
  /** The least milliseconds that the CPU needed for one. */
  readonly cpu: number;
}

/**
 * Samples of the time of a step. Warms up with few steps at a time until the clocks are up, which also tells how many
 * fit in a sample: so many that three samples take the time of a point.
 */
async function sampleSteps(
  decode: (steps: number) => Promise<DecodeRun>,
  most: number,
  { timing, heater, signal }: PointSettings,
): Promise<StepSamples> {
  const few = Math.min(WARM_UP_STEPS, most);
  await heater?.burst();
  let started = performance.now();
  let milliseconds = 0;
  do {
    signal?.throwIfAborted();
    milliseconds = (await decode(few)).milliseconds / few;
  } while (performance.now() - started < timing.warmUpMilliseconds);
  const affordable = Math.round(timing.pointMilliseconds / LEAST_SAMPLES / milliseconds);
  const steps = Math.max(few, Math.min(most, affordable));
  const perStep: number[] = [];
  let cpu = Infinity;
  started = performance.now();
  while (perStep.length < timing.samples) {
    signal?.throwIfAborted();
    const run = await decode(steps);
    perStep.push(run.milliseconds / steps);
    cpu = Math.min(cpu, run.cpuMilliseconds / steps);
    if (perStep.length >= LEAST_SAMPLES && performance.now() - started > timing.pointMilliseconds) break;
  }
  return { perStep, steps, cpu };
}

/** Processes prompts of rising length, until one would take too long. */
export async function measurePrefill(
  model: ContextModel,
  contexts: readonly number[],
  settings: PointSettings,
): Promise<(PrefillPoint | SkippedPoint)[]> {
  const { timing, signal } = settings;
  const points: (PrefillPoint | SkippedPoint)[] = [];
  let last: { readonly context: number; readonly milliseconds: number } | undefined;
  for (const context of contexts) {
    // What grows with the square is an upper bound.
    const expected = last === undefined ? 0 : last.milliseconds * (context / last.context) ** 2;
    if (expected > timing.prefillMilliseconds * 2 || (last && last.milliseconds > timing.prefillMilliseconds)) {
      const reason = `may take ${(expected / 1000).toFixed(0)} s, more than is given to a prompt`;
      points.push({ status: 'skipped', context, batch: 1, reason });
      continue;
    }
    const needed = model.bytesFor({ context, batch: 1, steps: 1 });
    const neededBytes = settings.allocated() + needed.state + needed.cache;
    if (neededBytes > settings.memory) {
      points.push(skippedForMemory(context, 1, neededBytes, settings.memory));
      continue;
    }
    const point = await unlessRefused(context, 1, async (): Promise<PrefillPoint> => {
      const sequence = await model.sequence(context);
      try {
        // Recordings for the caches of this context: one of a chunk that others follow, one of the last.
        await sequence.prefill(Math.min(context, 1024));
        const samples: number[] = [];
        const started = performance.now();
        while (samples.length < LEAST_SAMPLES) {
          signal?.throwIfAborted();
          samples.push(await sequence.prefill(context));
          if (performance.now() - started > timing.pointMilliseconds) break;
        }
        const milliseconds = summarize(samples);
        const tokensPerSecond = (1000 * context) / milliseconds.median;
        return { status: 'measured', context, batch: 1, milliseconds, tokensPerSecond };
      } finally {
        await sequence.dispose();
      }
    });
    if (point.status === 'measured') last = { context, milliseconds: point.milliseconds.median };
    points.push(point);
  }
  return points;
}

/** Decodes after a real prompt of this context and after a filled one, which must cost the same. */
export async function measureAgreement(
  model: ContextModel,
  context: number,
  settings: PointSettings,
): Promise<Agreement> {
  const steps = Math.min(settings.timing.steps, Math.floor(context / 2));
  const sequence = await model.sequence(context);
  let prompt: readonly number[];
  let promptBytes: number;
  try {
    const decode = async (count: number): Promise<DecodeRun> => {
      await sequence.prefill(context - count);
      return await sequence.decode(count);
    };
    prompt = (await sampleSteps(decode, steps, settings)).perStep;
    promptBytes = sequence.bytes.state + sequence.bytes.cache;
  } finally {
    await sequence.dispose();
  }
  const decodable = await model.fillContext({ context, batch: 1, steps });
  try {
    const filled = summarize((await sampleSteps((count) => decodable.decode(count), steps, settings)).perStep);
    const filledBytes = decodable.bytes.state + decodable.bytes.cache;
    const summary = summarize(prompt);
    return { context, prompt: summary, filled, ratio: filled.median / summary.median, promptBytes, filledBytes };
  } finally {
    await decodable.dispose();
  }
}

function skippedForMemory(context: number, batch: number, neededBytes: number, availableBytes: number): SkippedPoint {
  const reason = `needs ${formatBytes(neededBytes)} of ${formatBytes(availableBytes)}`;
  return { status: 'skipped', context, batch, reason, neededBytes, availableBytes };
}

/** What the library refuses is one point's result, and does not end the others. */
async function unlessRefused<T>(context: number, batch: number, body: () => Promise<T>): Promise<T | SkippedPoint> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof MambalabError)) throw error;
    const status = error instanceof OutOfMemoryError ? 'skipped' : 'failed';
    return { status, context, batch, reason: error.message };
  }
}
