import type { Device, ForcedChoices } from '@mambalab/kernels';
import { ArgumentError, Device as KernelsDevice, wrapDevice } from '@mambalab/kernels';
import { checkKernels } from './check_kernels.ts';
import { parseConfig } from './families/index.ts';
import type { GrammarEngineSource } from './generation/grammar_constraint.ts';
import type { RecoverOptions } from './generation/model.ts';
import { Model } from './generation/model.ts';
import { importGrammarEngine } from './generation/grammar_engine.ts';
import { readSampling } from './generation/generation_config.ts';
import { ModelRuntime } from './generation/runtime.ts';
import type { CacheDtype } from './graph/names.ts';
import { loadRuntime } from './load_runtime.ts';
import { ConfigReader } from './spec/config.ts';
import { weightsOf } from './spec/weight_spec.ts';
import { createChatTemplate } from './text/chat_template.ts';
import { createTokenizer } from './text/tokenizer.ts';
import type { Cache } from './weights/cache.ts';
import type { Checkpoint } from './weights/folder.ts';
import { openCheckpoint } from './weights/folder.ts';
import { WeightLoad } from './weights/load_weights.ts';
import type { PlannedWeight, WeightDtype } from './weights/plan.ts';
import { isFloat32, planWeights, splitTables } from './weights/plan.ts';
import { openShelf } from './weights/prepared_shelf.ts';
import type { Quantization } from './weights/quantization.ts';
import { checkQuantization } from './weights/quantization.ts';
import { randomWeights } from './weights/random_weights.ts';
import type { Folder } from './weights/source.ts';
import type { OpenOptions, SourceOptions } from './weights/source_options.ts';
import { plannedBytes } from './weights/weight_pieces.ts';

/** How far loading is. */
export interface LoadProgress {
  /**
   * `download`: bytes of all files that are here, told while some come over a network. `upload`: bytes of weights that
   * are on the GPU; the two go on at the same time. `compile`: all weights are there, shaders may still be compiled.
   */
  readonly phase: 'download' | 'upload' | 'compile';
  /** The file that the last bytes are of. */
  readonly file?: string;
  readonly loadedBytes: number;
  /** What `loadedBytes` grows to within its phase. */
  readonly totalBytes: number;
  /** Something that did not go as it was meant to and does not stop the load, such as a cache without room. */
  readonly note?: string;
}

export interface LoadOptions extends SourceOptions {
  /** A GPUDevice of the app, or a Device of `@mambalab/kernels`; requested when absent, and then owned by the model. */
  readonly device?: GPUDevice | Device;
  /** Storage of matrices on the GPU; `auto` keeps what the checkpoint holds. */
  readonly dtype?: WeightDtype;
  /** With `q8` and `q4`: which matrices are stored otherwise, and how scales are found. */
  readonly quantization?: Quantization;
  /**
   * Whether weights are kept in the cache as they lie on the GPU, so that the next load only reads them: as large as
   * they are there. When absent, those of models that are downloaded and kept, if their matrices are quantized or
   * converted. `true` keeps others, too, also those of local files.
   */
  readonly prepared?: boolean;
  /** Upper bound of tokens in one sequence, where there are KV caches; the model's own when absent. */
  readonly contextLength?: number;
  /** Storage of KV caches; f32 for f32 weights and f16 otherwise when absent. */
  readonly cacheDtype?: CacheDtype;
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
  /** Compile what a first prompt and its answer need, and not only when they need it; true when absent. */
  readonly warmUp?: boolean;
  /** Bytes of the largest tensor in one binding; what the device allows when absent, and never more. */
  readonly largestBinding?: number;
  /** Bytes on the GPU for the beginnings that sessions share; 64 MiB when absent. */
  readonly prefixCacheBytes?: number;
  /** Shader variants to force, for tests and measurements, such as `{ simd: 'baseline' }`. */
  readonly force?: ForcedChoices;
}

/** A model that a package ships: where its folder is. */
export interface CheckpointEntry {
  readonly name: string;
  /** URL of the folder that holds config.json, with a slash at the end. */
  readonly url: string;
}

/** What a platform brings: how to open a source, and how to get a device. */
export interface LoadPlatform<Source> {
  openFolder(source: Source, options: OpenOptions): Promise<Folder>;
  requestDevice(): Promise<Device>;
  /** The platform's cache. @throws ArgumentError where it has none */
  openCache(): Promise<Cache>;
  /** Loads what response formats are made with, where a plain import does not. */
  readonly grammarEngine?: GrammarEngineSource;
}

const DTYPES: readonly WeightDtype[] = ['auto', 'f32', 'f16', 'bf16', 'q8', 'q4'];

/** Loads a model from a source that the platform can open. */
export async function loadFrom<Source>(
  platform: LoadPlatform<Source>,
  source: Source,
  options: LoadOptions = {},
): Promise<Model> {
  checkOptions(options);
  const { signal } = options;
  signal?.throwIfAborted();
  const { onProgress } = options;
  const folder = await platform.openFolder(source, {
    ...options,
    ...(onProgress !== undefined && { onDownload: (progress) => onProgress({ phase: 'download', ...progress }) }),
  });
  let checkpoint: Checkpoint | undefined;
  try {
    checkpoint = await openCheckpoint(folder, signal);
    const reload = ({ device, signal: ends }: RecoverOptions): Promise<Model> => {
      const { device: _lost, signal: _ended, ...others } = options;
      return loadFrom(platform, source, { ...others, ...(device && { device }), ...(ends && { signal: ends }) });
    };
    return await build(platform, folder, checkpoint, options, reload);
  } finally {
    await (checkpoint?.source.dispose() ?? folder.dispose());
  }
}

async function build<Source>(
  platform: LoadPlatform<Source>,
  folder: Folder,
  checkpoint: Checkpoint,
  options: LoadOptions,
  reload: (options: RecoverOptions) => Promise<Model>,
): Promise<Model> {
  // Everything that can be refused without a GPU is refused before one is asked for.
  const parsed = parseConfig(checkpoint.config);
  const { dtype = 'auto', onProgress } = options;
  const plan = planWeights(parsed, checkpoint.source, dtype, options.quantization);
  const tokenizer =
    checkpoint.tokenizerJson === undefined
      ? undefined
      : createTokenizer(checkpoint.tokenizerJson, checkpoint.tokenizerConfig);
  const cacheDtype = options.cacheDtype ?? defaultCacheDtype(plan);
  checkKernels(parsed, plan, cacheDtype);
  const chatTemplate = createChatTemplate(checkpoint.tokenizerConfig, {
    jinja: checkpoint.chatTemplate,
    json: checkpoint.chatTemplateJson,
  });
  const generation = new ConfigReader(checkpoint.generationConfig ?? {}, 'generation_config.json');
  const eosTokens = generation.tokens('eos_token_id');
  const chatSampling = readSampling(generation);
  const contextLength = contextLengthOf(parsed.spec.contextLength, options.contextLength);

  let loadedBytes = 0;
  let totalBytes = plannedBytes(plan, checkpoint.source);
  const shelf = await openShelf(folder, checkpoint.source, plan, {
    ...options,
    dtype,
    openCache: () => platform.openCache(),
    onNote: (note) => onProgress?.({ phase: 'upload', loadedBytes, totalBytes, note }),
  });
  const weights = await WeightLoad.begin({ folder, source: checkpoint.source, shelf }, options.signal);

  const given = options.device;
  const owned = given === undefined ? await platform.requestDevice() : undefined;
  const device = owned ?? (given instanceof KernelsDevice ? given : wrapDevice(given as GPUDevice));
  let runtime: ModelRuntime | undefined;
  try {
    const fitted = splitTables(plan, largestBinding(device, options.largestBinding));
    const settings = { device, spec: parsed.spec, plan: fitted, cacheDtype, contextLength, force: options.force };
    runtime = await loadRuntime(settings, weights, {
      signal: options.signal,
      warmUp: options.warmUp !== false,
      onBytes: (loaded, total, file) => {
        loadedBytes = loaded;
        totalBytes = total;
        onProgress?.({ phase: 'upload', file, loadedBytes, totalBytes });
      },
      onUploaded: () => onProgress?.({ phase: 'compile', loadedBytes: totalBytes, totalBytes }),
    });
    options.signal?.throwIfAborted();
    return new Model({
      runtime,
      config: checkpoint.config,
      tokenizer,
      tokenizerProblem: checkpoint.tokenizerProblem,
      chatTemplate,
      eosTokens: eosTokens.length > 0 ? eosTokens : parsed.spec.eosTokens,
      chatSampling,
      grammarEngine: platform.grammarEngine ?? importGrammarEngine,
      prefixCacheBytes: options.prefixCacheBytes,
      reload,
      onDispose: () => owned?.dispose(),
    });
  } catch (error) {
    runtime?.dispose();
    owned?.dispose();
    throw error;
  }
}

export interface RandomModelOptions {
  readonly device: Device;
  /** Storage of matrices; with q8 and q4, those that stay exact are f16. */
  readonly dtype: 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';
  readonly seed?: number;
  readonly contextLength?: number;
  readonly cacheDtype?: CacheDtype;
  /** As in {@link LoadOptions}. */
  readonly largestBinding?: number;
  readonly force?: ForcedChoices;
}

/**
 * A model with random weights, made from a `config.json` alone: for measuring speed and memory of a shape without a
 * download. The same seed gives the same weights. It has no tokenizer.
 */
export async function createRandomModel(config: unknown, options: RandomModelOptions): Promise<Model> {
  const parsed = parseConfig(config);
  const { device, dtype } = options;
  const stored = weightsOf(parsed).map((spec): PlannedWeight => ({
    spec,
    dtype: isFloat32(spec) ? 'f32' : spec.exact === true && (dtype === 'q8' || dtype === 'q4') ? 'f16' : dtype,
  }));
  const plan = splitTables(stored, largestBinding(device, options.largestBinding));
  const runtime = new ModelRuntime({
    device,
    spec: parsed.spec,
    plan,
    weights: await randomWeights(device, plan, options.seed ?? 0),
    cacheDtype: options.cacheDtype ?? defaultCacheDtype(plan),
    contextLength: contextLengthOf(parsed.spec.contextLength, options.contextLength),
    force: options.force,
  });
  return new Model({
    runtime,
    config,
    tokenizer: undefined,
    chatTemplate: createChatTemplate(undefined),
    eosTokens: [],
    chatSampling: {},
    grammarEngine: importGrammarEngine,
    onDispose: () => undefined,
  });
}

function largestBinding(device: Device, asked: number = Infinity): number {
  const { maxStorageBufferBindingSize, maxBufferSize } = device.gpu.limits;
  return Math.min(asked, maxStorageBufferBindingSize, maxBufferSize);
}

/** Exact weights get exact caches; packed weights get caches of half the size. */
function defaultCacheDtype(plan: readonly PlannedWeight[]): CacheDtype {
  return plan.every(({ dtype }) => dtype === 'f32') ? 'f32' : 'f16';
}

function contextLengthOf(own: number | undefined, asked: number | undefined): number {
  return asked ?? own ?? Infinity;
}

function checkOptions(options: LoadOptions): void {
  const { dtype = 'auto', contextLength = 1, cacheDtype = 'f16' } = options;
  if (!DTYPES.includes(dtype)) {
    throw new ArgumentError(`'dtype' is '${String(dtype)}'.`, `This version stores matrices as: ${DTYPES.join(', ')}.`);
  }
  checkQuantization(options.quantization, dtype);
  if (!Number.isInteger(contextLength) || contextLength < 1) {
    throw new ArgumentError(`'contextLength' is ${contextLength}.`, 'Give a whole number of tokens.');
  }
  if (cacheDtype !== 'f16' && cacheDtype !== 'f32') {
    throw new ArgumentError(`'cacheDtype' is '${String(cacheDtype)}'.`, "Give 'f16' or 'f32'.");
  }
}
