import { ArgumentError, IntegrityError, NO_TOKEN } from '@mambalab/kernels';
import type { SamplingSettings, Sequence } from './sequence.ts';
import type { Session } from './session.ts';

export interface GenerateOptions {
  /** Most tokens to write; 256 when absent. */
  readonly maxTokens?: number;
  /** 0 is greedy, the default for raw text. */
  readonly temperature?: number;
  /** Fixes what is drawn at a temperature above 0; random when absent. */
  readonly seed?: number;
  /** Token ids that end the text, beside the model's own. */
  readonly stopTokens?: readonly number[];
  /** Go on after the model's end-of-sequence tokens. */
  readonly ignoreEos?: boolean;
  readonly signal?: AbortSignal;
  /** The text that the prompt continues, and that then has both; see {@link Session.generate}. */
  readonly session?: Session | undefined;
}

/**
 * One token and the text that it settled (often its own, `''` while a character is incomplete). Where the text ends
 * inside a character, one more piece with the last token again brings what was held back: count with `result.tokens`.
 */
export interface GeneratedPiece {
  readonly text: string;
  readonly token: number;
}

export interface GenerationResult {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: 'stop' | 'length' | 'abort';
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
  readonly timings: {
    /** From the start to the first token. */
    readonly timeToFirstTokenMs: number;
    readonly prefillMs: number;
    readonly decodeMs: number;
    readonly prefillTokensPerSecond: number;
    /** Tokens after the first, over the time after the first. */
    readonly decodeTokensPerSecond: number;
  };
}

/** Everything that a run of the generator needs, with defaults filled in. */
export interface GenerationPlan {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly sampling: SamplingSettings;
  readonly stops: ReadonlySet<number>;
  /** Tokens that the sequence may hold. */
  readonly contextLength: number;
  readonly signal: AbortSignal | undefined;
}

/** @throws ArgumentError for options outside what they may be */
export function planGeneration(
  prompt: readonly number[],
  options: GenerateOptions,
  defaults: { readonly eosTokens: readonly number[]; readonly contextLength: number; readonly temperature: number },
): GenerationPlan {
  const maxTokens = options.maxTokens ?? 256;
  const temperature = options.temperature ?? defaults.temperature;
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new ArgumentError(`'maxTokens' is ${maxTokens}.`, 'Give a whole number of at least 1.');
  }
  if (!Number.isFinite(temperature) || temperature < 0) {
    throw new ArgumentError(`'temperature' is ${temperature}.`, 'Give 0 for greedy decoding, or a positive number.');
  }
  if (options.seed !== undefined && !Number.isSafeInteger(options.seed)) {
    throw new ArgumentError(`'seed' is ${options.seed}.`, 'Give a whole number.');
  }
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 48);
  return {
    prompt,
    maxTokens,
    sampling: { temperature, seed: [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0] },
    stops: new Set([...(options.stopTokens ?? []), ...(options.ignoreEos === true ? [] : defaults.eosTokens)]),
    contextLength: defaults.contextLength,
    signal: options.signal,
  };
}

function checkToken(token: number): void {
  if (token !== NO_TOKEN) return;
  throw new IntegrityError(
    'The logits of the model are not numbers.',
    "Verify the checkpoint; if it is sound, load it with dtype 'f32' and report the difference.",
  );
}

/**
 * Writes tokens after a prompt. Steps are submitted ahead of their results, so the GPU does not wait for JavaScript;
 * what was submitted beyond a stop is discarded with the sequence.
 *
 * @param onPrompt called when the first token is there
 */
export async function* generateTokens(
  sequence: Sequence,
  plan: GenerationPlan,
  onPrompt: () => void,
): AsyncGenerator<number, GenerationResult['finishReason']> {
  const { signal } = plan;
  await sequence.prefill(plan.prompt, signal);
  sequence.setSampling(plan.sampling);
  let token = await sequence.sampleFirst();
  onPrompt();
  // Each further token needs the one before it in the context.
  const room = plan.contextLength - sequence.length;
  const steps = Math.min(plan.maxTokens - 1, room);
  await sequence.prepareSteps(steps);
  const pending: Promise<number>[] = [];
  let submitted = 0;
  try {
    for (let written = 0; ; written++) {
      checkToken(token);
      if (plan.stops.has(token)) return 'stop';
      // Keep the queue full before handing the token out: the GPU works while the consumer does.
      while (submitted < steps && sequence.freeSlots > 0) {
        const step = sequence.step();
        // It may fail while the consumer looks at an earlier token and nobody awaits it yet.
        step.catch(() => undefined);
        pending.push(step);
        submitted += 1;
      }
      yield token;
      if (signal?.aborted === true) return 'abort';
      const next = pending.shift();
      if (next === undefined) return 'length';
      token = await next;
    }
  } finally {
    // Results still on their way hold slots of the ring; a failure among them was reported by the awaited one.
    await Promise.allSettled(pending);
  }
}
