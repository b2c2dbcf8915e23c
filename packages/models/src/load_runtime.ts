import type { RuntimeSettings } from './generation/runtime.ts';
import { ModelRuntime } from './generation/runtime.ts';
import type { WeightLoad } from './weights/load_weights.ts';
import { unlessAborted } from './weights/traffic.ts';
import type { UploadOptions } from './weights/upload.ts';

/** The length whose prefill plan is compiled while loading: what a first prompt usually needs. */
export const MODERATE_PROMPT = 32;

export interface LoadRuntimeOptions extends UploadOptions {
  readonly warmUp: boolean;
  /** Called when all weights are on the GPU. */
  readonly onUploaded: () => void;
}

/**
 * Uploads the weights of a model, and compiles what a first prompt and its answer need at the same time: plans need no
 * weights until they are bound. On any failure everything is freed.
 */
export async function loadRuntime(
  settings: RuntimeSettings,
  load: WeightLoad,
  options: LoadRuntimeOptions,
): Promise<ModelRuntime> {
  const { signal, onUploaded } = options;
  const stop = new AbortController();
  const ends = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const runtime = new ModelRuntime(settings);
  const uploading = load.upload(settings.device, settings.plan, { ...options, signal: ends });
  try {
    const compiling = options.warmUp ? compilePlans(runtime) : Promise.resolve();
    await unlessAborted(Promise.all([uploading.then(onUploaded), compiling]), signal);
    runtime.attachWeights(await uploading);
    return runtime;
  } catch (error) {
    stop.abort(error);
    const weights = await uploading.catch(() => undefined);
    for (const tensor of weights?.values() ?? []) tensor.dispose();
    runtime.dispose();
    throw error;
  }
}

/** Compiles, in parallel, what a first prompt and its answer need. */
async function compilePlans(runtime: ModelRuntime): Promise<void> {
  const capacity = runtime.capacityFor(1);
  await Promise.all([
    runtime.decodePlan(capacity),
    runtime.samplePlan(),
    runtime.prefillPlan(MODERATE_PROMPT, 'last', capacity),
  ]);
}
