import type { Capabilities } from '@mambalab/kernels';
import type { PromptPart } from './generation/conversation.ts';
import type { Generation } from './generation/generation.ts';
import type { LogitsOptions, ModelMemory, Prompt } from './generation/model.ts';
import type { GenerateOptions } from './generation/options.ts';
import type { EmbedTextsOptions, Score } from './generation/score.ts';
import type { SaveOptions, Session, SessionOptions } from './generation/session.ts';
import type { Golden, Verification } from './generation/verify.ts';
import type { ModelSpec } from './spec/model_spec.ts';
import type { ChatTemplate } from './text/chat_template.ts';
import type { Tokenizer } from './text/tokenizer.ts';

/** What is there, or comes: a model of this realm answers at once, one in a worker later. */
export type Awaitable<T> = T | Promise<T>;

type Deferred<F> = F extends (...parameters: infer Parameters) => infer Result
  ? (...parameters: Parameters) => Awaitable<Awaited<Result>>
  : never;

/** A text in the making, wherever it is made; see {@link Generation}. */
export type TextStream = Pick<Generation, 'result' | 'toReadableStream' | typeof Symbol.asyncIterator>;

/** A tokenizer, wherever it is; see {@link Tokenizer}. */
export interface ModelTokenizer extends Pick<Tokenizer, 'vocabSize' | 'specialIds'> {
  readonly encode: Deferred<Tokenizer['encode']>;
  readonly decode: Deferred<Tokenizer['decode']>;
  readonly tokenToId: Deferred<Tokenizer['tokenToId']>;
  readonly idToToken: Deferred<Tokenizer['idToToken']>;
}

/** A chat template, wherever it is rendered; see {@link ChatTemplate}. */
export interface ModelChatTemplate extends Pick<ChatTemplate, 'exists' | 'names'> {
  readonly render: Deferred<ChatTemplate['render']>;
}

/** Options of a text, with a session from wherever the model is. */
export type TextOptions = Omit<GenerateOptions, 'session'> & { readonly session?: ModelSession | undefined };

/** A text that a model remembers, wherever it is; see {@link Session}. */
export interface ModelSession extends Pick<
  Session,
  'length' | 'tokens' | 'prefilledTokens' | 'bytes' | 'checkpoints' | 'append' | 'checkpoint' | 'rewind' | 'dispose'
> {
  generate(options?: Omit<GenerateOptions, 'session'>): TextStream;
  generate(part: PromptPart, options?: Omit<GenerateOptions, 'session'>): TextStream;
  logits(tokens: readonly number[], positions: 'all' | 'last', signal?: AbortSignal): Promise<Float32Array>;
  fork(): ModelSession;
  save(options?: SaveOptions): Promise<Uint8Array>;
  reset(): Awaitable<void>;
}

/**
 * What a `Model` of this realm and one in a worker have in common, and all that the faces for other ecosystems
 * (`openai`, `ai-sdk`, `serve`) know of a model.
 */
export interface LanguageModel {
  readonly spec: ModelSpec;
  readonly config: unknown;
  readonly capabilities: Capabilities;
  readonly contextLength: number;
  readonly tokenizer: ModelTokenizer;
  readonly chatTemplate: ModelChatTemplate;
  memory(): Awaitable<ModelMemory>;
  generate(prompt: Prompt, options?: TextOptions): TextStream;
  logits(
    tokens: readonly number[],
    options?: Omit<LogitsOptions, 'session'> & { readonly session?: ModelSession | undefined },
  ): Promise<Float32Array>;
  score(
    context: string | readonly number[],
    continuation: string | readonly number[],
    options?: { readonly signal?: AbortSignal },
  ): Promise<Score>;
  logprobs(tokens: readonly number[], options?: { readonly signal?: AbortSignal }): Promise<Float32Array>;
  embed(texts: readonly (string | readonly number[])[], options?: EmbedTextsOptions): Promise<Float32Array[]>;
  session(options?: SessionOptions): ModelSession;
  restore(bytes: Uint8Array, options?: SessionOptions): Promise<ModelSession>;
  verify(golden: Golden, tolerance?: number): Promise<Verification>;
  dispose(): Awaitable<void>;
}
