// What every build of the package exports; each adds its own `loadModel`.
export { MambalabError } from '@mambalab/kernels';
export {
  ArgumentError,
  ContextLengthError,
  DeviceLostError,
  IntegrityError,
  NetworkError,
  OutOfMemoryError,
  ShaderError,
  ShapeError,
  StorageQuotaError,
  UnsupportedModelError,
  WebGPUUnavailableError,
  WeightFormatError,
} from '@mambalab/kernels';
export { parseConfig, SUPPORTED_FAMILIES } from './families/index.ts';
export type { ResponseFormat } from './generation/constraint.ts';
export type { GeneratedPiece, GenerationResult } from './generation/generate.ts';
export { Generation } from './generation/generation.ts';
export { Model } from './generation/model.ts';
export type { LogitsOptions, ModelMemory, Prompt, RecoverOptions } from './generation/model.ts';
export type { GenerateOptions, LogitsProcessor, SamplingOptions } from './generation/options.ts';
export { LogitComparison, measureQuality, textChunks } from './generation/quality.ts';
export type { Quality, QualityOptions } from './generation/quality.ts';
export { ModelRuntime } from './generation/runtime.ts';
export type { RuntimeSettings } from './generation/runtime.ts';
export { logprobOf } from './generation/score.ts';
export type { EmbedTextsOptions, Score } from './generation/score.ts';
export { Sequence } from './generation/sequence.ts';
export { Session } from './generation/session.ts';
export type { SaveOptions, SessionOptions } from './generation/session.ts';
export type { SaveDtype } from './generation/session_bytes.ts';
export { PrefixCache } from './generation/prefix_cache.ts';
export type { PromptPart } from './generation/conversation.ts';
export type { RowHead, RowOptions } from './generation/prompt_pass.ts';
export type { SampledToken, SamplingSettings, TokenLogprob } from './generation/sampling_control.ts';
export { GOLDEN_TOLERANCE, readGolden, verifyModel } from './generation/verify.ts';
export type { Golden, Verification } from './generation/verify.ts';
export { buildDecode, buildPrefill, buildSample } from './graph/build.ts';
export type { BuildOptions, PrefillHead } from './graph/build.ts';
export { cacheBytesPerToken, stateBytesOf, stateTensors } from './graph/names.ts';
export type { CacheDtype, StateTensor } from './graph/names.ts';
export type {
  Awaitable,
  LanguageModel,
  ModelChatTemplate,
  ModelSession,
  ModelTokenizer,
  TextOptions,
  TextStream,
} from './language_model.ts';
export { createRandomModel } from './load_model.ts';
export { paper } from './paper.ts';
export type { CheckpointEntry, LoadOptions, LoadProgress, RandomModelOptions } from './load_model.ts';
export { allocateHybridLayers } from './spec/allocation.ts';
export { blockCounts, layerPattern } from './spec/block_kinds.ts';
export type {
  AttentionSpec,
  BlockSpec,
  GatedDeltaSpec,
  LayerSpec,
  Mamba2Spec,
  MambaSpec,
  MlpSpec,
  ModelSpec,
  MoeSpec,
  NormSpec,
  RotaryScaling,
  RotarySpec,
  SharedBlockSpec,
  ShortConvSpec,
} from './spec/model_spec.ts';
export { parameterCount, weightsOf } from './spec/weight_spec.ts';
export type { ParsedModel, WeightSpec } from './spec/weight_spec.ts';
export { ToolCallParser } from './tool_calls/index.ts';
export type { ToolCall, ToolCallPart } from './tool_calls/index.ts';
export type { ChatMessage, ChatTemplate, ChatTemplateOptions } from './text/chat_template.ts';
export type { Detokenizer } from './text/detokenizer.ts';
export { createTokenizer } from './text/tokenizer.ts';
export type { Tokenizer } from './text/tokenizer.ts';
export type { ByteRange, Cache, CacheValue } from './weights/cache.ts';
export { openHttpFolder } from './weights/http_folder.ts';
export { isHubId, openHubFolder } from './weights/hub_folder.ts';
export type { HubOptions } from './weights/hub_folder.ts';
export type { PlannedWeight, WeightDtype } from './weights/plan.ts';
export type { Quantization, TensorStorage } from './weights/quantization.ts';
export { randomWeights } from './weights/random_weights.ts';
export type { RemoteOptions } from './weights/remote_folder.ts';
export { openSafetensors, writeSafetensors } from './weights/safetensors.ts';
export type { ByteFile, Folder, TensorInfo, TensorSource } from './weights/source.ts';
export type { OpenOptions, SourceOptions } from './weights/source_options.ts';
export type { StoredFile } from './weights/stored_files.ts';
export type { DownloadProgress } from './weights/traffic.ts';
