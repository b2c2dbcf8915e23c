import type { Capabilities } from '@mambalab/kernels';
import type { PromptPart } from '../generation/conversation.ts';
import type { GeneratedPiece, GenerationResult } from '../generation/generate.ts';
import type { ModelMemory, Prompt } from '../generation/model.ts';
import type { GenerateOptions } from '../generation/options.ts';
import type { EmbedTextsOptions, Score } from '../generation/score.ts';
import type { SaveOptions, SessionOptions } from '../generation/session.ts';
import type { Golden, Verification } from '../generation/verify.ts';
import type { LoadProgress } from '../load_model.ts';
import type { ModelSpec } from '../spec/model_spec.ts';
import type { ChatMessage, ChatTemplateOptions } from '../text/chat_template.ts';
import type { DecodeOptions, EncodeOptions, SpecialIds } from '../text/tokenizer.ts';
import type { ErrorRecord } from './errors.ts';

// What a page and a worker say to each other over one port. Ids of texts, of their readers and of sessions are chosen by
// the page, so that what a model does at once (`generate`, `session`, `fork`) happens at once there, too: messages of a
// port arrive in their order.

/** What is sent to a worker, with a port that it goes on with. */
export const CONNECT = 'mambalab:connect';

export interface ModelInfo {
  readonly spec: ModelSpec;
  readonly config: unknown;
  readonly capabilities: Capabilities;
  readonly contextLength: number;
  readonly tokenizer:
    { readonly vocabSize: number; readonly specialIds: SpecialIds } | { readonly problem: ErrorRecord };
  readonly chatTemplate: { readonly exists: boolean; readonly names: readonly string[] };
}

/** What can be sent of the options of a text. */
export type SentOptions = Omit<GenerateOptions, 'signal' | 'session' | 'logitsProcessor' | 'draft'> & {
  readonly draft?: 'prompt-lookup';
};

/** What a page asks for and waits for. */
export interface Operations {
  load(source: unknown, options: unknown, lock: string | undefined): ModelInfo;
  recover(): ModelInfo;
  memory(): ModelMemory;
  logits(tokens: readonly number[], positions: 'all' | 'last' | undefined): Float32Array;
  score(context: string | readonly number[], continuation: string | readonly number[]): Score;
  logprobs(tokens: readonly number[]): Float32Array;
  embed(texts: readonly (string | readonly number[])[], options: Omit<EmbedTextsOptions, 'signal'>): Float32Array[];
  verify(golden: Golden, tolerance: number | undefined): Verification;
  encode(text: string, options: EncodeOptions | undefined): number[];
  decode(ids: readonly number[], options: DecodeOptions | undefined): string;
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions | undefined): string;
  next(text: number, reader: number): IteratorResult<GeneratedPiece, void>;
  leave(text: number, reader: number): void;
  result(text: number): GenerationResult;
  restore(session: number, bytes: Uint8Array, options: SessionOptions): void;
  append(session: number, part: PromptPart): void;
  sessionLogits(session: number, tokens: readonly number[], positions: 'all' | 'last'): Float32Array;
  save(session: number, options: SaveOptions | undefined): Uint8Array;
  checkpoint(session: number): number;
  rewind(session: number, toLength: number): void;
  reset(session: number): void;
  dispose(): void;
}

export type Operation = keyof Operations;

/** What a page says without waiting for an answer. What goes wrong shows at whatever comes of it. */
export interface Notes {
  generate(text: number, prompt: Prompt, options: SentOptions, session: number | undefined): void;
  /** @param prompt absent where the session goes on as it is */
  generateFrom(text: number, session: number, prompt: PromptPart | undefined, options: SentOptions): void;
  session(session: number, options: SessionOptions): void;
  fork(session: number, copy: number): void;
  disposeSession(session: number): void;
  /** Nobody can read the text any more. */
  drop(text: number): void;
  /** @param id of a call, or of a text */
  abort(id: number): void;
}

export type Note = keyof Notes;

export type ToWorker =
  | { readonly id: number; readonly call: Operation; readonly args: readonly unknown[] }
  | { readonly note: Note; readonly args: readonly unknown[] };

/** A session as it is after a call: the page keeps a copy of it. */
export interface SessionState {
  readonly id: number;
  /** Tokens that stayed, and those that follow them. */
  readonly kept: number;
  readonly added: readonly number[];
  readonly prefilledTokens: number;
  readonly bytes: number;
  readonly checkpoints: readonly number[];
}

export type FromWorker =
  | { readonly id: number; readonly value: unknown; readonly session?: SessionState }
  | { readonly id: number; readonly error: ErrorRecord; readonly session?: SessionState }
  /** The call, or the text that it was about, was aborted by the page. */
  | { readonly id: number; readonly aborted: true; readonly session?: SessionState }
  | { readonly id: number; readonly progress: LoadProgress };
