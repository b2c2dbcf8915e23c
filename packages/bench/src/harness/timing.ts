import type { Device, PassTime } from '@mambalab/kernels';
import { passMicroseconds, timePasses } from '@mambalab/kernels';

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
const MIN_SAMPLES_OF_A_CLOCK = 1024;

/** Unit of the clock in nanoseconds, as seen in its readings: the lowest bit that is set in any of them. */
export function clockQuantum(times: readonly PassTime[]): number {
  const bits = times.reduce((seen, { begin, end }) => seen | begin | end, 0n);
  return bits === 0n ? 0 : Number(bits & -bits);
}

/**
 * Times repetitions of some GPU work: by the GPU's timestamps around passes of many repetitions where the device has
 * them, else by the wall clock from submit to completion.
 *
 * @param dispatches dispatches of one repetition
 */
export async function sampleRepetitions(
  device: Device,
  encode: EncodeRepetition,
  dispatches: number,
  options: TimingOptions,
): Promise<Samples> {
  const timestamps = device.capabilities.features.has('timestamp-query');
  const maximum = Math.max(1, Math.floor(MAX_DISPATCHES / Math.max(1, dispatches)));
  let next = 0;
  let quantum = 0;
  const measure = async (repetitions: number, passes: number): Promise<number[]> => {
    const body = (pass: GPUComputePassEncoder): void => {
      for (let i = 0; i < repetitions; i++) encode(pass, next++);
    };
    if (!timestamps) return wallClock(device, body, passes);
    const times = await timePasses(
      device,
      Array.from({ length: passes }, () => body),
    );
    const seen = clockQuantum(times);
    quantum = quantum === 0 || seen === 0 ? Math.max(quantum, seen) : Math.min(quantum, seen);
    return passMicroseconds(times);
  };

  // Calibration doubles as warm-up: clocks rise and pipelines settle while the passes grow to their length.
  const started = performance.now();
  let repetitions = 1;
  let duration = 0;
  for (;;) {
    duration = (await measure(repetitions, 1))[0] ?? 0;
    const coarse = quantum >= MIN_SAMPLES_OF_A_CLOCK ? (QUANTA_OF_A_PASS * quantum) / 1000 : 0;
    const target = Math.max(options.passMilliseconds * 1000, coarse);
    if (duration < target && repetitions < maximum) {
      const factor = duration === 0 ? 16 : Math.min(16, Math.max(1.25, (1.1 * target) / duration));
      repetitions = Math.min(maximum, Math.ceil(repetitions * factor));
    } else if (performance.now() - started >= options.warmUpMilliseconds) break;
  }

  const affordable = Math.floor((options.budgetMilliseconds * 1000) / Math.max(duration, 1));
  const count = Math.min(options.samples, Math.max(MIN_SAMPLES, affordable));
  const perSubmit = Math.max(1, Math.floor(SUBMIT_MICROSECONDS / Math.max(duration, 1)));
  const samples: number[] = [];
  while (samples.length < count) {
    samples.push(...(await measure(repetitions, Math.min(perSubmit, count - samples.length))));
  }
  return {
    microseconds: samples.map((sample) => sample / repetitions),
    method: timestamps ? 'timestamps' : 'wall clock',
    repetitions,
  };
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
