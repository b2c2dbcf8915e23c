import type { ResponseFormat } from '../generation/constraint.ts';

// Shapes of OpenAI's API, as far as they mean something here. A request of the official `openai` package is one of
// these, and what is answered is what that package says it is: its types are compared in a test.

export interface FunctionDefinition {
  readonly name: string;
  readonly description?: string;
  /** A JSON schema; no parameters when absent. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly strict?: boolean | null;
}

/** What the model may call. */
export type ChatTool =
  { readonly type: 'function'; readonly function: FunctionDefinition } | { readonly type: 'custom' };

export type ToolChoice =
  | 'auto'
  | 'none'
  | 'required'
  | { readonly type: 'function'; readonly function: { readonly name: string } }
  | { readonly type: 'custom' | 'allowed_tools' };

/** A turn of a conversation; see OpenAI's reference for what each role has. */
export interface RequestMessage {
  readonly role: string;
  readonly content?: unknown;
}

/** What the fields of both kinds of texts are. Fields with an asterisk are not OpenAI's own. */
export interface SamplingRequest {
  readonly model: string;
  readonly n?: number | null;
  readonly seed?: number | null;
  readonly stop?: string | readonly string[] | null;
  readonly stream?: boolean | null;
  readonly stream_options?: { readonly include_usage?: boolean; readonly include_obfuscation?: boolean } | null;
  readonly temperature?: number | null;
  readonly top_p?: number | null;
  readonly frequency_penalty?: number | null;
  readonly presence_penalty?: number | null;
  readonly logit_bias?: Readonly<Record<string, number>> | null;
  readonly max_tokens?: number | null;
  /** * Keep the k most probable tokens. */
  readonly top_k?: number | null;
  /** * Keep tokens at least this times as probable as the most probable one. */
  readonly min_p?: number | null;
  /** * Makes recent tokens less probable; 1 is none. */
  readonly repetition_penalty?: number | null;
  /** * Go on after the model's end tokens. */
  readonly ignore_eos?: boolean | null;
  /** * Token ids that end the text. */
  readonly stop_token_ids?: readonly number[] | null;
}

/** How a text is held to a format; the library's `regex` and `grammar`, too. */
export type RequestFormat =
  | { readonly type: 'text' }
  | { readonly type: 'json_object' }
  | {
      readonly type: 'json_schema';
      readonly json_schema: { readonly name: string; readonly schema?: Readonly<Record<string, unknown>> };
    }
  | Extract<ResponseFormat, { readonly type: 'regex' | 'grammar' }>;

export interface ChatCompletionRequest extends SamplingRequest {
  readonly messages: readonly RequestMessage[];
  readonly max_completion_tokens?: number | null;
  readonly logprobs?: boolean | null;
  readonly top_logprobs?: number | null;
  readonly response_format?: RequestFormat;
  readonly tools?: readonly ChatTool[];
  readonly tool_choice?: ToolChoice;
  readonly parallel_tool_calls?: boolean;
}

export interface CompletionRequest extends SamplingRequest {
  /** A text, its token ids, or several of either. */
  readonly prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[] | null;
  readonly echo?: boolean | null;
  readonly logprobs?: number | null;
}

export interface EmbeddingRequest {
  readonly model: string;
  readonly input: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  readonly dimensions?: number;
  readonly encoding_format?: 'float' | 'base64';
}

export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  completion_tokens_details?: { reasoning_tokens: number };
}

export interface TopLogprob {
  token: string;
  logprob: number;
  bytes: number[] | null;
}

export interface ChatTokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

export interface ChatLogprobs {
  content: ChatTokenLogprob[] | null;
  refusal: null;
}

export interface ChatToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: 'assistant';
      content: string | null;
      refusal: null;
      /** What the model thought, where it marks that (`<think>`). */
      reasoning_content?: string;
      tool_calls?: ChatToolCall[];
    };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason;
  }[];
  usage: CompletionUsage;
}

export interface ChatToolCallDelta {
  index: number;
  id?: string;
  type?: 'function';
  function?: { name?: string; arguments?: string };
}

export interface ChatDelta {
  role?: 'assistant';
  content?: string;
  reasoning_content?: string;
  tool_calls?: ChatToolCallDelta[];
}

export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  choices: { index: number; delta: ChatDelta; logprobs: ChatLogprobs | null; finish_reason: FinishReason | null }[];
  usage?: CompletionUsage | null;
}

export interface CompletionLogprobs {
  tokens: string[];
  /** `null` for the first token of a prompt, which nothing predicts. */
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

export interface Completion {
  id: string;
  object: 'text_completion';
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    logprobs: CompletionLogprobs | null;
    finish_reason: 'stop' | 'length';
  }[];
  usage?: CompletionUsage;
}

/** A part of a text that is streamed. */
export type CompletionChunk = Omit<Completion, 'choices' | 'usage'> & {
  choices: {
    index: number;
    text: string;
    logprobs: CompletionLogprobs | null;
    finish_reason: 'stop' | 'length' | null;
  }[];
  usage?: CompletionUsage | null;
};

export interface EmbeddingResponse {
  object: 'list';
  model: string;
  data: { object: 'embedding'; index: number; embedding: number[] }[];
  usage: { prompt_tokens: number; total_tokens: number };
}

/** The same with little-endian float32 values in base64. */
export type Base64EmbeddingResponse = Omit<EmbeddingResponse, 'data'> & {
  data: { object: 'embedding'; index: number; embedding: string }[];
};

export interface ModelDescription {
  id: string;
  object: 'model';
  /** Seconds since 1970. */
  created: number;
  owned_by: string;
}

export interface ModelList {
  object: 'list';
  data: ModelDescription[];
}
