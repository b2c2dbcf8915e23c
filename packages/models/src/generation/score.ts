import { ArgumentError, IntegrityError } from '@mambalab/kernels';
import type { Sequence } from './sequence.ts';

/** How probable a continuation is after its context. */
export interface Score {
  /** Natural logarithm of the probability of the whole continuation: the sum of those of its tokens. */
  readonly logprob: number;
  /** Whether greedy decoding would write it. */
  readonly isGreedy: boolean;
  /** Natural logarithm of the probability of each token, given all before it. */
  readonly tokenLogprobs: readonly number[];
}

export interface EmbedTextsOptions {
  /** The mean of the hidden states of all tokens, or that of the last one; `mean` when absent. */
  readonly pooling?: 'mean' | 'last';
  /** Scale each vector to the length 1; false when absent. */
  readonly normalize?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Scores `continuation` after `context`: the context is processed without logits, those of the continuation are looked
 * at a chunk at a time.
 *
 * @throws ArgumentError if either is empty
 */
export async function scoreTokens(
  sequence: Sequence,
  context: readonly number[],
  continuation: readonly number[],
  signal?: AbortSignal,
): Promise<Score> {
  if (context.length === 0 || continuation.length === 0) {
    throw new ArgumentError(
      `The ${context.length === 0 ? 'context' : 'continuation'} has no token.`,
      'Give one token at least: a beginning-of-sequence token where there is no context.',
    );
  }
  const before = context.slice(0, -1);
  if (before.length > 0) await sequence.advance(before, signal);
  const tokenLogprobs: number[] = [];
  let isGreedy = true;
  // The last token of the context predicts the first of the continuation, and so on.
  const predicting = [...context.slice(-1), ...continuation.slice(0, -1)];
  await sequence.prefillRows(predicting, 'all', { signal }, (row, index) => {
    const { logprob, isLargest } = logprobOf(row, continuation[index] ?? 0);
    tokenLogprobs.push(logprob);
    isGreedy &&= isLargest;
  });
  return { logprob: tokenLogprobs.reduce((sum, logprob) => sum + logprob, 0), isGreedy, tokenLogprobs };
}

/** The pooled hidden state (D) of a text. */
export async function embedTokens(
  sequence: Sequence,
  tokens: readonly number[],
  { pooling = 'mean', normalize = false, signal }: EmbedTextsOptions,
): Promise<Float32Array> {
  let sum: Float64Array | undefined;
  await sequence.prefillRows(tokens, 'hidden', { signal, lastOnly: pooling === 'last' }, (row) => {
    sum ??= new Float64Array(row.length);
    for (let i = 0; i < row.length; i++) sum[i] = (sum[i] ?? 0) + (row[i] ?? NaN);
  });
  const total = sum ?? new Float64Array();
  const length = Math.hypot(...total);
  const divisor = normalize ? length : pooling === 'mean' ? tokens.length : 1;
  return Float32Array.from(total, (value) => (divisor === 0 ? 0 : value / divisor));
}

/** @throws ArgumentError for an option that is none of those above */
export function checkEmbedOptions({ pooling = 'mean' }: EmbedTextsOptions): void {
  if (pooling === 'mean' || pooling === 'last') return;
  throw new ArgumentError(`'pooling' is '${String(pooling)}'.`, "Give 'mean' or 'last'.");
}

/**
 * log softmax(logits)[token] of (V) logits, in float64, and whether the token is the first of the largest.
 *
 * @throws IntegrityError for logits that are not numbers
 */
export function logprobOf(
  logits: Float32Array,
  token: number,
): { readonly logprob: number; readonly isLargest: boolean } {
  let largest = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] ?? NaN) > (logits[largest] ?? NaN)) largest = i;
  const offset = logits[largest] ?? NaN;
  let mass = 0;
  for (let i = 0; i < logits.length; i++) mass += Math.exp((logits[i] ?? NaN) - offset);
  if (Number.isNaN(mass)) {
    throw new IntegrityError(
      'The logits of the model are not numbers.',
      "Verify the checkpoint; if it is sound, load it with dtype 'f32' and report the difference.",
    );
  }
  return { logprob: (logits[token] ?? NaN) - offset - Math.log(mass), isLargest: largest === token };
}
