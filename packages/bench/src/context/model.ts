import type { DecodeRun } from '../harness/model_bench.ts';

/** What the suite knows of an opened model; the module that knows the models package implements it. */
export interface ContextModel {
  readonly parameters: number;
  readonly pattern: string;
  readonly weightsBytes: number;
  /** Bytes of weights that a step reads: an embedding of its own left out. */
  readonly weightsReadBytes: number;
  readonly stateBytes: number;
  readonly kvBytesPerToken: number;
  readonly dispatchesPerStep: number;
  /** Bytes that sequences of this context take. */
  bytesFor(shape: ContextShape): ContextBytes;
  /** Sequences with random states and caches. @throws OutOfMemoryError */
  fillContext(shape: ContextShape): Promise<DecodableContext>;
  /** A sequence that really processes prompts of up to so many tokens. @throws OutOfMemoryError */
  sequence(capacity: number): Promise<PromptSequence>;
  dispose(): Promise<void>;
}

/** Sequences that the decoding of `steps` tokens fills up to `context`. */
export interface ContextShape {
  readonly context: number;
  readonly batch: number;
  readonly steps: number;
}

export interface ContextBytes {
  readonly state: number;
  readonly cache: number;
}

export interface DecodableContext {
  readonly bytes: ContextBytes;
  /** Decodes the last so many tokens of every sequence's context, and reads them back. */
  decode(steps: number): Promise<DecodeRun>;
  dispose(): Promise<void>;
}

export interface PromptSequence {
  readonly bytes: ContextBytes;
  /** Forgets what was, processes so many tokens and chooses the next; resolves with milliseconds. */
  prefill(tokens: number): Promise<number>;
  /** Decodes on from there. */
  decode(steps: number): Promise<DecodeRun>;
  dispose(): Promise<void>;
}

/** Opens a shape with random weights. @throws OutOfMemoryError */
export type OpenContextModel = (config: Readonly<Record<string, unknown>>) => Promise<ContextModel>;
