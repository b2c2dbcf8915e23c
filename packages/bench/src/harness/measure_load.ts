import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '@mambalab/kernels';
import type { Cache, LoadProgress, WeightDtype } from '@mambalab/models';
import { loadModel, openCache } from '@mambalab/models/node';

/** One load, from the call to a model that answers. */
export interface LoadRun {
  /** `made`: from the checkpoint, and kept. `prepared`: what was kept. */
  readonly kind: 'made' | 'prepared';
  readonly seconds: number;
  /** Until all weights were on the GPU. */
  readonly uploadedSeconds: number;
  /** Bytes of the weights on the GPU. */
  readonly bytes: number;
  /** `bytes` in `uploadedSeconds`. */
  readonly gigabytesPerSecond: number;
  /** Time in which at least one read of what was kept was on its way. */
  readonly readingSeconds: number;
  /** The same of what was being kept. */
  readonly storingSeconds: number;
  /** Time within calls that hand bytes to the GPU's queue. */
  readonly writingSeconds: number;
  /** Time that shaders took beyond the weights. */
  readonly compilingSeconds: number;
  /** What did not go as it was meant to. */
  readonly notes: readonly string[];
}

export interface MeasureLoadOptions {
  readonly dtype: WeightDtype;
  /** Folder on the disk that is to be measured, in which what is kept has a folder for a while. */
  readonly cacheParent: string;
  /** Loads after the first. */
  readonly repeats: number;
  /** Whether shaders are compiled, too. */
  readonly warmUp: boolean;
  /** A device of its own for each load, since compiled shaders belong to one. */
  requestDevice(): Promise<Device>;
  onRun(run: LoadRun): void;
}

/**
 * Loads a model once from its checkpoint and then from what was kept. What a load reads was written or read just before,
 * so that it comes out of the page cache where that has room for it.
 */
export async function measureLoads(source: string, options: MeasureLoadOptions): Promise<LoadRun[]> {
  const folder = await mkdtemp(join(options.cacheParent, 'mambalab-load-'));
  const runs: LoadRun[] = [];
  try {
    const cache = await openCache(folder);
    for (let index = 0; index <= options.repeats; index++) {
      const run = await measureLoad(source, index === 0 ? 'made' : 'prepared', cache, options);
      runs.push(run);
      options.onRun(run);
    }
    return runs;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measureLoad(
  source: string,
  kind: LoadRun['kind'],
  kept: Cache,
  { dtype, warmUp, requestDevice }: MeasureLoadOptions,
): Promise<LoadRun> {
  const device = await requestDevice();
  try {
    const reading = new Stopwatch();
    const storing = new Stopwatch();
    const { fill } = kept;
    const cache: Cache = {
      ...kept,
      get: (...call) => reading.during(kept.get(...call)),
      ...(fill !== undefined && { fill: (...call: Parameters<typeof fill>) => reading.during(fill(...call)) }),
      put: (...call) => storing.during(kept.put(...call)),
    };
    let writingSeconds = 0;
    const write = device.write.bind(device);
    device.write = (...call) => {
      const started = performance.now();
      write(...call);
      writingSeconds += (performance.now() - started) / 1e3;
    };
    let uploadedSeconds = 0;
    const notes: string[] = [];
    const started = performance.now();
    const elapsed = (): number => (performance.now() - started) / 1e3;
    const onProgress = ({ phase, note }: LoadProgress): void => {
      if (phase === 'compile') uploadedSeconds = elapsed();
      if (note !== undefined) notes.push(note);
    };
    using model = await loadModel(source, { device, dtype, cache, prepared: true, warmUp, onProgress });
    const seconds = elapsed();
    const bytes = model.runtime.weightsBytes;
    return {
      kind,
      seconds,
      uploadedSeconds,
      bytes,
      gigabytesPerSecond: bytes / uploadedSeconds / 1e9,
      readingSeconds: reading.seconds,
      storingSeconds: storing.seconds,
      writingSeconds,
      compilingSeconds: seconds - uploadedSeconds,
      notes,
    };
  } finally {
    device.dispose();
  }
}

/** Time in which at least one of several promises was pending. */
class Stopwatch {
  #pending = 0;
  #since = 0;
  #milliseconds = 0;

  async during<T>(work: Promise<T>): Promise<T> {
    if (this.#pending === 0) this.#since = performance.now();
    this.#pending += 1;
    try {
      return await work;
    } finally {
      this.#pending -= 1;
      if (this.#pending === 0) this.#milliseconds += performance.now() - this.#since;
    }
  }

  get seconds(): number {
    return this.#milliseconds / 1e3;
  }
}
