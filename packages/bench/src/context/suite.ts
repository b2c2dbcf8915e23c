import { MambalabError } from '@mambalab/kernels';
import { formatBytes } from '../format.ts';
import type { Environment } from '../results.ts';
import { ablationConfig, architectureConfig, attentionPercent, vocabSizeOf } from './family.ts';
import type { FamilyShape } from './family.ts';
import type { ContextTiming, PointSettings } from './measure.ts';
import { measureAgreement, measureDecode, measurePrefill } from './measure.ts';
import type { ContextModel, OpenContextModel } from './model.ts';
import type {
  Agreement,
  Architecture,
  ArchitectureResult,
  ContextReport,
  DecodePoint,
  PrefillPoint,
  SkippedArchitecture,
  SkippedPoint,
} from './results.ts';
import { speedups } from './speedups.ts';

export const FULL_CONTEXT: ContextTiming = {
  steps: 64,
  samples: 7,
  pointMilliseconds: 1200,
  warmUpMilliseconds: 300,
  prefillMilliseconds: 5000,
};

export const QUICK_CONTEXT: ContextTiming = {
  steps: 16,
  samples: 3,
  pointMilliseconds: 300,
  warmUpMilliseconds: 50,
  prefillMilliseconds: 1000,
};

/** A CPU has no clocks to warm up, and its steps take long. */
export const SOFTWARE_CONTEXT: ContextTiming = {
  steps: 8,
  samples: 3,
  pointMilliseconds: 300,
  warmUpMilliseconds: 0,
  prefillMilliseconds: 1000,
};

export const CONTEXT_LENGTHS: readonly number[] = [1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072];
export const QUICK_LENGTHS: readonly number[] = [1024, 8192, 32_768];
/** Shares of attention: the paper's 4 of 28 among them. */
export const ABLATION_SHARES: readonly number[] = [0, 1 / 28, 1 / 14, 1 / 7, 0.25, 0.5, 1];

export interface ContextOptions extends Omit<PointSettings, 'allocated'> {
  readonly environment: Environment;
  readonly scale: string;
  readonly shape: FamilyShape;
  /** Why this scale. */
  readonly reason: string;
  readonly dtype: string;
  readonly seed: number;
  readonly quick: boolean;
  readonly architectures: readonly Architecture[];
  /** In rising order. */
  readonly lengths: readonly number[];
  readonly batches: readonly number[];
  readonly ablation: readonly number[];
  readonly prefill: boolean;
  /** Minutes after which nothing new is begun. */
  readonly minutes: number;
  readonly open: OpenContextModel;
  readonly allocated: () => number;
  /** Bytes of the weights of a configuration, known without opening it. */
  readonly weightsBytes: (config: Readonly<Record<string, unknown>>) => number;
  readonly onStage?: (text: string, done: number, total: number) => void;
  readonly onSkip?: (result: SkippedArchitecture) => void;
  /** Called after every architecture with a report of what is there. */
  readonly onReport?: (report: ContextReport) => void;
  readonly onPoint?: (name: string, kind: 'decode' | 'prefill', point: AnyPoint) => void;
}

export type AnyPoint = DecodePoint | PrefillPoint | SkippedPoint;

/** Measures every architecture, one opened at a time. What is there is reported when it is interrupted. */
export async function measureContext(options: ContextOptions): Promise<ContextReport> {
  const { architectures: names, ablation: shares, signal } = options;
  const total = names.length + shares.length;
  const started = performance.now();
  // A share of the time that is left for each: what is slow must not leave nothing to others.
  const until = (done: number): number => {
    const left = started + 60_000 * options.minutes - performance.now();
    const weight = done < names.length ? names.length - done + shares.length / 4 : (total - done) / 4;
    return performance.now() + (done < names.length ? left / weight : left / (total - done));
  };
  const architectures: (ArchitectureResult | SkippedArchitecture)[] = [];
  const ablation: (ArchitectureResult | SkippedArchitecture)[] = [];
  const keep = (list: typeof architectures, result: ArchitectureResult | SkippedArchitecture): void => {
    list.push(result);
    if (!('decode' in result)) options.onSkip?.(result);
    options.onReport?.(reportOf(options, architectures, ablation, false));
  };
  for (const [index, architecture] of names.entries()) {
    if (signal?.aborted === true) break;
    options.onStage?.(architecture, index, total);
    const config = architectureConfig(architecture, options.shape);
    keep(architectures, await measureArchitecture(architecture, config, until(index), options, 'whole'));
  }
  for (const [index, share] of shares.entries()) {
    if (signal?.aborted === true) break;
    const done = names.length + index;
    options.onStage?.(`${(100 * share).toFixed(0)} % attention`, done, total);
    const config = ablationConfig(share, options.shape);
    keep(ablation, await measureArchitecture('ablation', config, until(done), options, 'decode'));
  }
  return reportOf(options, architectures, ablation, signal?.aborted !== true);
}

function reportOf(
  options: ContextOptions,
  architectures: readonly (ArchitectureResult | SkippedArchitecture)[],
  ablation: readonly (ArchitectureResult | SkippedArchitecture)[],
  complete: boolean,
): ContextReport {
  const { environment, ceilings, quick, seed, dtype, scale, shape, reason } = options;
  return {
    schema: 'mambalab-bench/context',
    version: 1,
    environment,
    ceilings,
    quick,
    complete,
    seed,
    dtype,
    family: {
      scale,
      reason,
      hiddenSize: shape.hiddenSize,
      layers: shape.layers,
      vocabSize: vocabSizeOf(shape),
    },
    method: describeMethod(options.timing),
    architectures: [...architectures],
    speedups: speedups(architectures),
    ablation: [...ablation],
  };
}

async function measureArchitecture(
  architecture: Architecture | 'ablation',
  config: Readonly<Record<string, unknown>>,
  deadline: number,
  options: ContextOptions,
  extent: 'whole' | 'decode',
): Promise<ArchitectureResult | SkippedArchitecture> {
  const pattern = config['hybrid_override_pattern'];
  const percent = typeof pattern === 'string' ? attentionPercent(pattern) : architecture === 'mamba' ? 0 : 100;
  const skipped = (reason: string): SkippedArchitecture => ({ architecture, attentionPercent: percent, reason });
  if (performance.now() > deadline) return skipped('no time was left');
  const neededBytes = options.weightsBytes(config);
  if (neededBytes > options.memory) {
    const reason = `its weights need ${formatBytes(neededBytes)} of ${formatBytes(options.memory)}`;
    return { ...skipped(reason), neededBytes, availableBytes: options.memory };
  }
  let model: ContextModel;
  try {
    model = await options.open(config);
  } catch (error) {
    if (!(error instanceof MambalabError)) throw error;
    return skipped(error.message);
  }
  try {
    return await measureModelAt(architecture, percent, model, deadline, options, extent);
  } finally {
    await model.dispose();
  }
}

async function measureModelAt(
  architecture: Architecture | 'ablation',
  percent: number,
  model: ContextModel,
  deadline: number,
  options: ContextOptions,
  extent: 'whole' | 'decode',
): Promise<ArchitectureResult> {
  const { lengths, batches, signal } = options;
  const name = architecture === 'ablation' ? `${percent.toFixed(0)} % attention` : architecture;
  const decode: (DecodePoint | SkippedPoint)[] = [];
  const prefill: (PrefillPoint | SkippedPoint)[] = [];
  let agreement: Agreement | undefined;
  const isOver = (): boolean => performance.now() > deadline;
  const untilAborted = async (body: () => Promise<void>): Promise<void> => {
    if (signal?.aborted === true) return;
    try {
      await body();
    } catch (error) {
      if (!isAbort(signal)) throw error;
    }
  };
  const decodeAt = async (batch: number, contexts: readonly number[]): Promise<void> => {
    for (const context of contexts) {
      if (isAbort(signal)) return;
      await untilAborted(async () => {
        const point: DecodePoint | SkippedPoint = isOver()
          ? { status: 'skipped', context, batch, reason: 'no time was left' }
          : await measureDecode(model, context, batch, options);
        decode.push(point);
        options.onPoint?.(name, 'decode', point);
      });
    }
  };
  const [first = 1] = batches;
  const ends = [lengths[0], lengths[Math.floor(lengths.length / 2)], lengths[lengths.length - 1]];
  const contexts = extent === 'whole' ? lengths : lengths.filter((length) => ends.includes(length));
  await decodeAt(first, contexts);
  const [shortest] = lengths;
  if (extent === 'whole' && shortest !== undefined) {
    await untilAborted(async () => {
      if (!isOver()) agreement = await measureAgreement(model, shortest, options);
    });
    if (options.prefill) {
      await untilAborted(async () => {
        prefill.push(...(isOver() ? [] : await measurePrefill(model, lengths, options)));
        for (const point of prefill) options.onPoint?.(name, 'prefill', point);
      });
    }
    for (const batch of batches.slice(1)) await decodeAt(batch, lengths);
  }
  return {
    architecture,
    attentionPercent: percent,
    pattern: model.pattern,
    parameters: model.parameters,
    weightsBytes: model.weightsBytes,
    stateBytes: model.stateBytes,
    kvBytesPerToken: model.kvBytesPerToken,
    dispatchesPerStep: model.dispatchesPerStep,
    decode,
    prefill,
    ...(agreement === undefined ? {} : { agreement }),
  };
}

/** A getter may have changed since it was last looked at: a call keeps the compiler from taking it for a constant. */
const isAbort = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;

const describeMethod = ({ steps, samples, warmUpMilliseconds }: ContextTiming): readonly string[] => [
  'Weights are random; greedy sampling runs on the GPU, and every token is read back.',
  `At a context of n tokens, the last ${steps} tokens that fill it up to n are decoded, or fewer where that would take long: n counts them.`,
  'States and caches are filled with random numbers instead of a prompt: the cost of a step depends on lengths alone. "agreement" compares both at the shortest context.',
  `Each point warms up for ${warmUpMilliseconds} ms or more of decoding, then the median of up to ${samples} samples counts; the spread is the interquartile range over the median.`,
  'Bytes of a step are the weights once (an embedding of its own left out), the states of every sequence twice, and its KV cache as far as it is filled.',
  'Prefill processes real prompts, in chunks of 512 tokens, until they would take too long.',
];
