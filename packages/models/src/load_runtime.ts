import type { Tensor } from '@mambalab/kernels';
import type { RuntimeSettings } from './generation/runtime.ts';
import { ModelRuntime } from './generation/runtime.ts';
import type { Folder, TensorSource } from './weights/source.ts';
import { unlessAborted } from './weights/traffic.ts';
import type { UploadOptions } from './weights/upload.ts';
import { uploadWeights } from './weights/upload.ts';

/** The length whose prefill plan is compiled while loading: what a first prompt usually needs. */
export const MODERATE_PROMPT = 32;

export interface LoadRuntimeOptions extends UploadOptions {
  /** Where the weights come from: told when all of them are read. */
  readonly folder: Folder;
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
  source: TensorSource,
  options: LoadRuntimeOptions,
): Promise<ModelRuntime> {
  const { signal } = options;
  const stop = new AbortController();
  const ends = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const runtime = new ModelRuntime(settings);
  const uploading = uploadWeights(settings.device, settings.plan, source, { ...options, signal: ends });
  try {
    const compiling = options.warmUp ? compilePlans(runtime) : Promise.resolve();
    await unlessAborted(Promise.all([finish(uploading, options), compiling]), signal);
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

async function finish(
  uploading: Promise<ReadonlyMap<string, Tensor>>,
  { folder, signal, onUploaded }: LoadRuntimeOptions,
): Promise<void> {
  await uploading;
  await folder.endStreaming?.(signal);
  onUploaded();
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
