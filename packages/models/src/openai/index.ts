export { APIError } from './api_error.ts';
export type { APIErrorBody, APIErrorType } from './api_error.ts';
export type { ChatCompletions } from './chat_completions.ts';
export type { Completions } from './completions.ts';
export type { Embeddings } from './embeddings.ts';
export { createEngine } from './engine.ts';
export type { Engine, EngineOptions } from './engine.ts';
export { EventStream } from './event_stream.ts';
export type { RequestOptions } from './registry.ts';
export type {
  Base64EmbeddingResponse,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatDelta,
  ChatLogprobs,
  ChatTokenLogprob,
  ChatTool,
  ChatToolCall,
  ChatToolCallDelta,
  Completion,
  CompletionChunk,
  CompletionLogprobs,
  CompletionRequest,
  CompletionUsage,
  EmbeddingRequest,
  EmbeddingResponse,
  FinishReason,
  ModelDescription,
  ModelList,
  RequestFormat,
  RequestMessage,
  SamplingRequest,
  ToolChoice,
  TopLogprob,
} from './types.ts';
