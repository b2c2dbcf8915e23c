import type { Summary } from '../harness/statistics.ts';
import type { Ceilings, Environment } from '../results.ts';

/** The paper's architectures, and its Transformer with as few key heads as its hybrid has. */
export type Architecture = 'mamba' | 'mamba2' | 'hybrid' | 'transformer' | 'transformer-gqa';

export const ARCHITECTURES: readonly Architecture[] = ['mamba', 'mamba2', 'hybrid', 'transformer', 'transformer-gqa'];

/** What was asked for and could not be measured. */
export interface SkippedPoint {
  readonly status: 'skipped' | 'failed';
  readonly context: number;
  readonly batch: number;
  readonly reason: string;
  /** Bytes on the device with this point, and what there is, where that is the reason. */
  readonly neededBytes?: number;
  readonly availableBytes?: number;
}

/** Decoding the last tokens of a context. */
export interface DecodePoint {
  readonly status: 'measured';
  /** Tokens that every sequence has when the last step ends. */
  readonly context: number;
  /** Sequences that are decoded together. */
  readonly batch: number;
  /** Tokens decoded in each sample. */
  readonly steps: number;
  readonly millisecondsPerStep: Summary;
  /** Of all sequences together. */
  readonly tokensPerSecond: number;
  readonly cpuMicrosecondsPerStep: number;
  /** Bytes that a step must touch: weights once, states twice, caches as far as they are filled. */
  readonly bytesPerStep: number;
  /** Those bytes in that time, of the read ceiling. */
  readonly bandwidthPercent: number;
  readonly memory: { readonly weights: number; readonly state: number; readonly cache: number };
}

export interface PrefillPoint {
  readonly status: 'measured';
  /** Tokens of the prompt. */
  readonly context: number;
  readonly batch: 1;
  readonly milliseconds: Summary;
  readonly tokensPerSecond: number;
}

/** Decoding after a real prompt beside decoding after random states and caches of the same length. */
export interface Agreement {
  readonly context: number;
  /** Milliseconds a step. */
  readonly prompt: Summary;
  readonly filled: Summary;
  /** Filled over prompt, by medians. */
  readonly ratio: number;
  /** Bytes of states and caches; both must be the same. */
  readonly promptBytes: number;
  readonly filledBytes: number;
}

export interface ArchitectureResult {
  readonly architecture: Architecture | 'ablation';
  /** Attention of attention and Mamba-2 layers, in per cent. */
  readonly attentionPercent: number;
  /** One letter a block; see GLOSSARY.md. */
  readonly pattern: string;
  readonly parameters: number;
  readonly weightsBytes: number;
  /** Of one sequence. */
  readonly stateBytes: number;
  readonly kvBytesPerToken: number;
  readonly dispatchesPerStep: number;
  readonly decode: readonly (DecodePoint | SkippedPoint)[];
  readonly prefill: readonly (PrefillPoint | SkippedPoint)[];
  readonly agreement?: Agreement;
}

/** An architecture that could not be opened at all. */
export interface SkippedArchitecture {
  readonly architecture: Architecture | 'ablation';
  readonly attentionPercent: number;
  readonly reason: string;
  readonly neededBytes?: number;
  readonly availableBytes?: number;
}

/** How many times as fast one architecture decodes as another, over the context. */
export interface Speedup {
  readonly architecture: Architecture;
  readonly over: Architecture;
  readonly batch: number;
  readonly points: readonly {
    readonly context: number;
    /** Measured. */
    readonly speed: number;
    /** By the bytes that a step touches: what memory bandwidth alone would give. */
    readonly bytes: number;
    /** Bytes of states and caches of the other over its own. */
    readonly memory: number;
  }[];
  /** Tokens from which on it is faster, between two measured ones by their logarithms; Infinity is not written. */
  readonly faster: Crossing;
  /** Tokens from which on its states and caches are smaller. */
  readonly smaller: Crossing;
}

/** Where a ratio passes 1: nowhere below what was measured, or nowhere at all, or there. */
export type Crossing =
  { readonly at: 'always' } | { readonly at: 'never' } | { readonly at: 'context'; readonly tokens: number };

/** The sizes that were measured, and why these. */
export interface Family {
  readonly scale: string;
  readonly reason: string;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly vocabSize: number;
}

/** What `mambalab-bench context --json` writes. */
export interface ContextReport {
  readonly schema: 'mambalab-bench/context';
  readonly version: 1;
  readonly environment: Environment;
  readonly ceilings: Ceilings;
  readonly quick: boolean;
  /** False where it was interrupted: what is there is complete in itself. */
  readonly complete: boolean;
  readonly seed: number;
  readonly dtype: string;
  readonly family: Family;
  /** How it was measured, in sentences. */
  readonly method: readonly string[];
  readonly architectures: readonly (ArchitectureResult | SkippedArchitecture)[];
  readonly speedups: readonly Speedup[];
  /** The hybrid with more and fewer of its Mamba-2 layers replaced by attention. */
  readonly ablation: readonly (ArchitectureResult | SkippedArchitecture)[];
}
