import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import type { SamplePass } from './sample_passes.ts';
import { keysFor, recordAdjust, recordFilters, recordLogprobs, recordMerge, recordSlices } from './sample_passes.ts';
import { SAMPLE_SETTINGS_WORDS } from './sample_settings.ts';

export interface SampleInputs {
  /** (B, V) f32; rows may be strided */
  readonly logits: TensorRef;
  /** (B) u32, written */
  readonly token: TensorRef;
  /** (B) u32: the counter of the random numbers, 0 when absent; updated in place with `advance` */
  readonly position?: TensorRef;
  /** (B, 16) u32, rows of `sampleSettings`; without filters and penalties (B, 4) will do. Greedy when absent. */
  readonly settings?: TensorRef;
  /**
   * (B, 1 + W) u32, W up to 4096: how many tokens were appended so far, then a ring of the last W of them, where token n
   * stands at n % W. The penalties look at it; the chosen token is appended in place.
   */
  readonly recent?: TensorRef;
  /** (B, N, 2) u32: tokens and bits of the f32 added to their logits; the last entry of a token counts, others are free */
  readonly bias?: TensorRef;
  /** (B, ceil(V / 32)) u32: bit i % 32 of word i / 32 is 1 where token i is allowed */
  readonly mask?: TensorRef;
  /** (B) f32, written: the log-probability of the token */
  readonly logprob?: TensorRef;
  /** (B, n) u32, n up to 20, written: the most probable tokens, the best first; needs `topLogprobs` and `logprob` */
  readonly topTokens?: TensorRef;
  /** (B, n) f32, written: their log-probabilities */
  readonly topLogprobs?: TensorRef;
}

export interface SampleOptions {
  /** Adds 1 to `position` first: what is chosen stands at that place. */
  readonly advance?: boolean;
  /** Top-k, top-p and min-p, as `settings` say. */
  readonly filters?: boolean;
}

/** The token that {@link sample} writes where no logit can be chosen. */
export const NO_TOKEN = 0xffffffff;

const MAX_WINDOW = 4096;
const MAX_TOPS = 20;
/** No sum of masses overflows below 2^20, no merge of slices runs out of room up to here. */
const MAX_VOCABULARY = 2 ** 19;

/**
 * The next token of each sequence, chosen on the GPU. Every row of the batch has settings of its own, in a buffer.
 *
 * In this order: `bias` is added (one that is not finite replaces the logit: -Infinity bans a token); for tokens in
 * `recent` positive logits are divided by the repetition penalty and negative ones multiplied, then the presence penalty
 * and the frequency penalty times the token's count are subtracted; tokens that `mask` lacks are dropped; logits are
 * divided by the temperature; top-k, top-p and min-p follow, each on the tempered distribution that the one before left.
 * Top-k keeps all logits that equal the k-th largest. Top-p keeps the most probable tokens up to the one with which their
 * mass reaches p, and the equals of that one. Min-p keeps the tokens at least min-p times as probable as the most
 * probable one. All are exact for every V: no candidate is left out, and the mass of each is an f32 exponential in whole
 * units of 2^-44, whose sums are the same in any order.
 *
 * Where `settings` are absent or their temperature is not a positive finite number, the largest logit wins, the first
 * one on ties; this is the same on every device. Otherwise a token is drawn from what is left, exactly (Gumbel-max): the
 * largest `logit / temperature - log(-log(u))` wins. The random numbers u are Philox-4x32-10 of the seed, the position
 * and the index alone, so that the same three and the same logits give the same token in any batch; between devices only
 * the rounding of exponentials and logarithms differs. Their 32 bits never draw a token rarer than 2^-33.
 *
 * A NaN is never chosen, nor is -Infinity drawn at random. Where nothing can be chosen, the token is {@link NO_TOKEN},
 * which is not appended to `recent`. Log-probabilities are those of the logits as they came, before anything else; they
 * are -Infinity for no token.
 *
 * @returns `token`
 * @throws ShapeError if a shape or dtype is not as above; ArgumentError if one input or option lacks another
 *
 * Cost: two dispatches, four with filters, one more for log-probabilities; about 4 B V bytes, 20 B V with filters; 50
 * flops a logit when drawing. Source: arXiv 1411.0030; Salmon et al., SC 2011; arXiv 1909.05858, section 4.1; arXiv
 * 1904.09751 (top-p); arXiv 2407.01082 (min-p).
 */
export function sample(recording: Recording, inputs: SampleInputs, options: SampleOptions = {}): TensorRef {
  const { filters = false } = options;
  const pass = checked(recording, inputs, options);
  const { logprob, topTokens, topLogprobs } = inputs;
  if (!filters && [inputs.recent, inputs.bias, inputs.mask, logprob].every((tensor) => tensor === undefined)) {
    recordMerge(pass, recordSlices(pass));
    return inputs.token;
  }
  const keys = filters ? keysFor(pass) : undefined;
  const records = recordAdjust(pass, keys);
  if (keys === undefined) recordMerge(pass, records);
  else recordFilters(pass, keys, records);
  if (logprob !== undefined) recordLogprobs(pass, records, { logprob, topTokens, topLogprobs });
  return inputs.token;
}

function checked(recording: Recording, inputs: SampleInputs, options: SampleOptions): SamplePass {
  const { logits, token, position, settings, recent, bias, mask, logprob, topTokens, topLogprobs } = inputs;
  const { advance = false, filters = false } = options;
  requireDtype('sample', 'logits', logits, 'f32');
  const [batch = 1, width] = requireRank('sample', 'logits', logits, ['B', 'V']);
  const vocabSize = requireStatic('sample', 'V', width);
  const require = (name: string, tensor: TensorRef | undefined, dtype: 'u32' | 'f32', shape: readonly Size[]): void => {
    if (tensor === undefined) return;
    requireDtype('sample', name, tensor, dtype);
    requireShape('sample', name, tensor, shape);
  };
  const widthOf = (name: string, tensor: TensorRef | undefined): number =>
    tensor === undefined ? 0 : requireStatic('sample', `of '${name}'`, tensor.shape[1]);
  const demand = (condition: boolean, problem: string, hint: string): void =>
    requireArgument(condition, `sample: ${problem}`, hint);
  require('token', token, 'u32', [batch]);
  require('position', position, 'u32', [batch]);
  const isShort = !filters && recent === undefined && widthOf('settings', settings) === 4;
  require('settings', settings, 'u32', [batch, isShort ? 4 : SAMPLE_SETTINGS_WORDS]);
  const window = widthOf('recent', recent) - 1;
  require('recent', recent, 'u32', [batch, window + 1]);
  require('bias', bias, 'u32', [batch, widthOf('bias', bias), 2]);
  require('mask', mask, 'u32', [batch, Math.ceil(vocabSize / 32)]);
  require('logprob', logprob, 'f32', [batch]);
  const tops = widthOf('topTokens', topTokens);
  require('topTokens', topTokens, 'u32', [batch, tops]);
  require('topLogprobs', topLogprobs, 'f32', [batch, tops]);
  demand(!advance || position !== undefined, "'advance' is set, but there is no 'position'.", 'Give the position.');
  demand(
    !filters || settings !== undefined,
    "'filters' is set, but there are no 'settings'.",
    'Give rows of settings.',
  );
  demand(
    recent === undefined || (settings !== undefined && window >= 1 && window <= MAX_WINDOW),
    `'recent' has room for ${window} tokens${settings === undefined ? ', but there are no settings' : ''}.`,
    `Give settings and room for 1 to ${MAX_WINDOW} tokens.`,
  );
  demand(
    (topTokens === undefined) === (topLogprobs === undefined) && (topTokens === undefined || logprob !== undefined),
    "'topTokens', 'topLogprobs' and 'logprob' belong together.",
    "Give all three, or 'logprob' alone.",
  );
  demand(tops <= Math.min(MAX_TOPS, vocabSize), `${tops} tops of ${vocabSize}.`, `Ask for at most ${MAX_TOPS}.`);
  demand(
    (!filters && logprob === undefined) || vocabSize <= MAX_VOCABULARY,
    `V is ${vocabSize}.`,
    `Up to ${MAX_VOCABULARY} logits can be filtered or have log-probabilities.`,
  );
  const counted = logprob === undefined ? undefined : tops;
  return { recording, batch, vocabSize, logits, token, position, settings, recent, bias, mask, advance, tops: counted };
}
