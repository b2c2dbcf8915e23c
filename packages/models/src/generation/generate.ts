import { ArgumentError, IntegrityError, NO_TOKEN, UnsupportedModelError } from '@mambalab/kernels';
import type { ToolCall, ToolCallPart } from '../tool_calls/index.ts';
import type { TokenConstraint } from './constraint.ts';
import type { GenerationPlan } from './options.ts';
import type { SampledToken, TokenLogprob } from './sampling_control.ts';
import type { Sequence } from './sequence.ts';

/**
 * One token and the text that it settled (often its own, `''` while a character is incomplete). Where the text ends
 * inside a character, one more piece with the last token again brings what was held back: count with `result.tokens`.
 */
export interface GeneratedPiece {
  readonly text: string;
  readonly token: number;
  /** Where `logprobs` was asked for. */
  readonly logprob?: number;
  /** The most probable tokens at this place, the best first. */
  readonly topLogprobs?: readonly TokenLogprob[];
  /** What became known of calls of tools, where there are tools. */
  readonly toolCalls?: readonly ToolCallPart[];
}

export interface GenerationResult {
  /** Without stop texts and without calls of tools. */
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: 'stop' | 'length' | 'abort';
  /** Complete calls of tools, in their order; absent where there are no tools. */
  readonly toolCalls?: readonly ToolCall[];
  /** The log-probability of each of `tokens`, where asked for. */
  readonly logprobs?: readonly number[];
  readonly usage: {
    readonly promptTokens: number;
    readonly completionTokens: number;
    /** Tokens of the prompt that were not processed, since the model remembered them; absent where there are none. */
    readonly cachedTokens?: number;
  };
  readonly timings: {
    /** From the start to the first token. */
    readonly timeToFirstTokenMs: number;
    readonly prefillMs: number;
    readonly decodeMs: number;
    readonly prefillTokensPerSecond: number;
    /** Tokens after the first, over the time after the first. */
    readonly decodeTokensPerSecond: number;
    /** With a draft: tokens that were guessed, and how many of them stayed. */
    readonly draftedTokens?: number;
    readonly acceptedTokens?: number;
  };
}

/** What a run of the generator tells as it goes. */
export interface GenerationEvents {
  /** The first token is there. */
  onPrompt(): void;
  /** So many tokens were guessed, and so many of them were right. */
  onDraft(drafted: number, accepted: number): void;
}

/** Tokens as they are chosen; returns why there are no more. */
export type TokenStream = AsyncGenerator<SampledToken, 'stop' | 'length' | 'abort'>;

/** @throws IntegrityError if no token could be chosen */
export function checkToken({ token }: SampledToken): void {
  if (token !== NO_TOKEN) return;
  throw new IntegrityError(
    'The logits of the model are not numbers.',
    "Verify the checkpoint; if it is sound, load it with dtype 'f32' and report the difference.",
  );
}

/** Tokens that a text can have after the first: each needs the one before it in the context. */
export function stepsAfterFirst(sequence: Sequence, plan: GenerationPlan): number {
  return Math.min(plan.maxTokens - 1, plan.contextLength - sequence.length);
}

/**
 * Writes tokens after a prompt. Steps are submitted ahead of their results, so the GPU does not wait for JavaScript;
 * what was submitted beyond a stop is discarded with the sequence.
 */
export async function* generateTokens(sequence: Sequence, plan: GenerationPlan, events: GenerationEvents): TokenStream {
  const { signal } = plan;
  await sequence.prefill(plan.prompt, signal);
  await sequence.prepareSampling(plan.sampling);
  // Where there is no room for the rest of the text, it has no first token either.
  const steps = stepsAfterFirst(sequence, plan);
  await sequence.reserve(sequence.length + steps);
  sequence.setSampling(plan.sampling, [...plan.history, ...plan.prompt]);
  let sampled = await sequence.sample();
  events.onPrompt();
  await sequence.prepareSteps(steps);
  const pending: Promise<SampledToken>[] = [];
  let submitted = 0;
  try {
    for (;;) {
      checkToken(sampled);
      if (plan.stops.has(sampled.token)) return 'stop';
      // Keep the queue full before handing the token out: the GPU works while the consumer does.
      while (submitted < steps && sequence.freeSlots > 0) {
        const step = sequence.next();
        // It may fail while the consumer looks at an earlier token and nobody awaits it yet.
        step.catch(() => undefined);
        pending.push(step);
        submitted += 1;
      }
      yield sampled;
      if (signal?.aborted === true) return 'abort';
      const next = pending.shift();
      if (next === undefined) return 'length';
      sampled = await next;
    }
  } finally {
    // Results still on their way hold slots of the ring; a failure among them was reported by the awaited one.
    await Promise.allSettled(pending);
  }
}

/** As {@link generateTokens}, where JavaScript has a say before each token: a constraint, or a `logitsProcessor`. */
export async function* generateInLoop(
  sequence: Sequence,
  plan: GenerationPlan,
  constraint: TokenConstraint | undefined,
  events: GenerationEvents,
): TokenStream {
  const { signal, logitsProcessor } = plan;
  const tokens = [...plan.history, ...plan.prompt];
  await sequence.prefill(plan.prompt, signal);
  await sequence.prepareSampling(plan.sampling);
  sequence.setSampling(plan.sampling, tokens);
  const steps = stepsAfterFirst(sequence, plan);
  await sequence.prepareForward(steps);
  for (let written = 0; ; written++) {
    if (logitsProcessor !== undefined) {
      const logits = await sequence.lastLogits();
      const processed = logitsProcessor(logits, tokens) ?? logits;
      if (processed.length !== logits.length) {
        throw new ArgumentError(
          `The logitsProcessor returned ${processed.length} logits of ${logits.length}.`,
          'Return as many as it is given, or nothing.',
        );
      }
      sequence.setLogits(processed);
    }
    if (constraint !== undefined) sequence.setMask(requireAny(await constraint.mask()));
    const sampled = await sequence.sample();
    if (written === 0) events.onPrompt();
    checkToken(sampled);
    const { token } = sampled;
    if (plan.stops.has(token)) return 'stop';
    tokens.push(token);
    constraint?.accept(token);
    const isLast = written >= steps || constraint?.ended === true;
    // The GPU works while the consumer and the constraint do.
    if (!isLast) sequence.forward();
    yield sampled;
    if (signal?.aborted === true) return 'abort';
    if (isLast) return constraint?.ended === true ? 'stop' : 'length';
  }
}

function requireAny(mask: Uint32Array): Uint32Array {
  if (mask.some((word) => word !== 0)) return mask;
  throw new UnsupportedModelError(
    'No token of the vocabulary can continue the text as the response format asks.',
    'Use another format, or a model whose vocabulary can write it.',
  );
}
