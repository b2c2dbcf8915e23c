import type { Device, PassTime } from '@mambalab/kernels';
import { passMicroseconds, timePasses } from '@mambalab/kernels';
import { summarize } from './statistics.ts';

export interface TimingOptions {
  /** Passes that are timed, at most. */
  readonly samples: number;
  /** A pass repeats the work until it lasts so long. */
  readonly passMilliseconds: number;
  readonly warmUpMilliseconds: number;
  /** Samples stop early when all passes would take longer than this. */
  readonly budgetMilliseconds: number;
}

export const FULL_TIMING: TimingOptions = {
  samples: 25,
  passMilliseconds: 2,
  warmUpMilliseconds: 30,
  budgetMilliseconds: 1500,
};

export const QUICK_TIMING: TimingOptions = {
  samples: 7,
  passMilliseconds: 2,
  warmUpMilliseconds: 5,
  budgetMilliseconds: 150,
};

/** Samples of the time of one repetition. */
export interface Samples {
  readonly microseconds: readonly number[];
  readonly method: 'timestamps' | 'wall clock';
  /** Repetitions in each pass. */
  readonly repetitions: number;
}

/** Encodes repetition number `index` into a pass. */
export type EncodeRepetition = (pass: GPUComputePassEncoder, index: number) => void;

/** Dispatches that one pass may hold: more would spend memory and time on encoding. */
const MAX_DISPATCHES = 16_384;
const MIN_SAMPLES = 3;
/** Work of one submit: long ones trip the watchdogs of drivers. */
const SUBMIT_MICROSECONDS = 100_000;
/** A pass lasts so many units of a quantized clock, which keeps its error within two per cent. */
const QUANTA_OF_A_PASS = 100;
/** Nanoseconds from which on the unit of a clock is coarse. */
const COARSE_QUANTUM = 1024;
/** Passes longer than this are confirmed by one other instead of two. */
const LONG_MICROSECONDS = 500_000;

/** Unit of the clock in nanoseconds, as seen in its readings: the lowest bit that is set in any of them. */
export function clockQuantum(times: readonly PassTime[]): number {
  const bits = times.reduce((seen, { begin, end }) => seen | begin | end, 0n);
  return bits === 0n ? 0 : Number(bits & -bits);
}

/** Runs so many passes of so many repetitions each: microseconds of every pass, and the unit of the clock in them. */
export type MeasurePasses = (
  repetitions: number,
  passes: number,
) => Promise<{ readonly microseconds: readonly number[]; readonly quantum: number }>;

/**
 * Finds how many repetitions make a pass long enough, then samples such passes. A pass that something else made long
 * (a cold cache, a busy machine) is not believed: the shortest of three counts, and samples that turn out shorter than
 * they should be are taken again with more repetitions.
 *
 * @param maximum repetitions that a pass may hold
 * @throws RangeError if even that many are too short for the clock
 */
export async function samplePasses(
  measure: MeasurePasses,
  maximum: number,
  options: TimingOptions,
): Promise<Omit<Samples, 'method'>> {
  let quantum = Infinity;
  const run = async (count: number, passes: number): Promise<readonly number[]> => {
    const measured = await measure(count, passes);
    if (measured.quantum > 0) quantum = Math.min(quantum, measured.quantum);
    return measured.microseconds;
  };
  const target = (): number => {
    const coarse = Number.isFinite(quantum) && quantum >= COARSE_QUANTUM ? (QUANTA_OF_A_PASS * quantum) / 1000 : 0;
    return Math.max(options.passMilliseconds * 1000, coarse);
  };
  const grow = (count: number, duration: number): number => {
    const factor = duration <= 0 ? 16 : Math.min(16, Math.max(1.25, (1.1 * target()) / duration));
    return Math.min(maximum, Math.ceil(count * factor));
  };

  // Calibration doubles as warm-up: clocks rise and pipelines settle while the passes grow to their length.
  const started = performance.now();
  let repetitions = 1;
  let duration = 0;
  for (;;) {
    duration = Math.min(...(await run(repetitions, 1)));
    if (duration >= target()) {
      const confirmations = duration > LONG_MICROSECONDS ? 1 : 2;
      duration = Math.min(duration, ...(await run(repetitions, confirmations)));
    }
    if (duration < target() && repetitions < maximum) repetitions = grow(repetitions, duration);
    else if (performance.now() - started >= options.warmUpMilliseconds) break;
  }

  for (;;) {
    const affordable = Math.floor((options.budgetMilliseconds * 1000) / Math.max(duration, 1));
    const count = Math.min(options.samples, Math.max(MIN_SAMPLES, affordable));
    const perSubmit = Math.max(1, Math.floor(SUBMIT_MICROSECONDS / Math.max(duration, 1)));
    const samples: number[] = [];
    while (samples.length < count) {
      samples.push(...(await run(repetitions, Math.min(perSubmit, count - samples.length))));
    }
    const { median } = summarize(samples);
    if (median >= target() / 2 || repetitions >= maximum) {
      if (median <= 0)
        throw new RangeError(`${repetitions} repetitions take no time that the clock of this device shows.`);
      return { microseconds: samples.map((sample) => sample / repetitions), repetitions };
    }
    repetitions = grow(repetitions, median);
    duration = target();
  }
}

/**
 * Times repetitions of some GPU work: by the GPU's timestamps around passes of many repetitions where the device has
 * them, else by the wall clock from submit to completion.
 *
 * @param dispatches dispatches of one repetition
 * @param heat other work, before every pass that is timed, so that the GPU does not lower its clocks
 */
export async function sampleRepetitions(
  device: Device,
  encode: EncodeRepetition,
  dispatches: number,
  options: TimingOptions,
  heat?: (pass: GPUComputePassEncoder) => void,
): Promise<Samples> {
  const timestamps = device.capabilities.features.has('timestamp-query');
  const maximum = Math.max(1, Math.floor(MAX_DISPATCHES / Math.max(1, dispatches)));
  let next = 0;
  const measure: MeasurePasses = async (repetitions, passes) => {
    const body = (pass: GPUComputePassEncoder): void => {
      for (let i = 0; i < repetitions; i++) encode(pass, next++);
    };
    if (!timestamps) return { microseconds: await wallClock(device, body, passes), quantum: 0 };
    const bodies = Array.from({ length: passes }, () => (heat === undefined ? [body] : [heat, body]));
    const times = await timePasses(device, bodies.flat());
    const microseconds = passMicroseconds(times).filter((_, at) => heat === undefined || at % 2 === 1);
    return { microseconds, quantum: clockQuantum(times) };
  };
  const samples = await samplePasses(measure, maximum, options);
  return { ...samples, method: timestamps ? 'timestamps' : 'wall clock' };
}

async function wallClock(
  device: Device,
  body: (pass: GPUComputePassEncoder) => void,
  passes: number,
): Promise<number[]> {
  const durations: number[] = [];
  for (let i = 0; i < passes; i++) {
    const encoder = device.gpu.createCommandEncoder({ label: 'bench' });
    const pass = encoder.beginComputePass();
    body(pass);
    pass.end();
    const commands = encoder.finish();
    const started = performance.now();
    device.gpu.queue.submit([commands]);
    await device.idle();
    durations.push((performance.now() - started) * 1000);
  }
  return durations;
}
