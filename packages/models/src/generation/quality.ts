import { ArgumentError, IntegrityError } from '@mambalab/kernels';
import type { Model } from './model.ts';

/** How much one model's predictions differ from another's over given tokens. */
export interface Quality {
  /** Predictions that were compared. */
  readonly tokens: number;
  /** Mean Kullback-Leibler divergence of the model's distributions from the reference's, in nats a token. */
  readonly meanKl: number;
  /** Share of predictions whose most likely token is the same. */
  readonly topOneAgreement: number;
  /** exp of the mean negative log-likelihood of the tokens that follow, of the model. */
  readonly perplexity: number;
  /** The same of the reference. */
  readonly referencePerplexity: number;
}

/** Compares logits row by row, in float64. */
export class LogitComparison {
  #tokens = 0;
  #divergence = 0;
  #agreed = 0;
  #surprise = 0;
  #referenceSurprise = 0;

  /**
   * Adds predictions.
   *
   * @param reference logits of the reference, (L, V) row-major
   * @param logits those of the model, of the same shape
   * @param targets (L), the token that follows each
   * @throws ArgumentError if shapes differ or a target is no token; IntegrityError for logits that are not numbers
   */
  add(reference: Float32Array, logits: Float32Array, targets: readonly number[]): void {
    const width = reference.length / targets.length;
    if (reference.length !== logits.length || !Number.isInteger(width)) {
      throw new ArgumentError(
        `${reference.length} and ${logits.length} logits are no two predictions of ${targets.length} tokens.`,
        'Compare models of one vocabulary.',
      );
    }
    for (const [row, target] of targets.entries()) {
      if (!(Number.isInteger(target) && target >= 0 && target < width)) {
        throw new ArgumentError(`${target} is no token of a vocabulary of ${width}.`, 'Give ids of the vocabulary.');
      }
      const expected = reference.subarray(row * width, (row + 1) * width);
      const actual = logits.subarray(row * width, (row + 1) * width);
      const [expectedSum, actualSum] = [logSumExp(expected), logSumExp(actual)];
      let divergence = 0;
      for (const [token, logit] of expected.entries()) {
        const logProbability = logit - expectedSum;
        const probability = Math.exp(logProbability);
        // What is impossible adds nothing, whatever the model says of it.
        if (probability > 0) divergence += probability * (logProbability - ((actual[token] ?? NaN) - actualSum));
      }
      if ([divergence, expectedSum, actualSum].some(Number.isNaN)) {
        throw new IntegrityError(
          `The logits for token ${this.#tokens} of the text are not numbers.`,
          'Check the weights of both models.',
        );
      }
      this.#divergence += divergence;
      this.#agreed += largest(expected) === largest(actual) ? 1 : 0;
      this.#surprise += actualSum - (actual[target] ?? NaN);
      this.#referenceSurprise += expectedSum - (expected[target] ?? NaN);
      this.#tokens += 1;
    }
  }

  /** @throws ArgumentError if nothing was compared */
  result(): Quality {
    const tokens = this.#tokens;
    if (tokens === 0) throw new ArgumentError('There is nothing to compare.', 'Give a text of at least two tokens.');
    return {
      tokens,
      // Rounding may leave a sum of zeros a little below zero.
      meanKl: Math.max(0, this.#divergence / tokens),
      topOneAgreement: this.#agreed / tokens,
      perplexity: Math.exp(this.#surprise / tokens),
      referencePerplexity: Math.exp(this.#referenceSurprise / tokens),
    };
  }
}

export interface QualityOptions {
  readonly signal?: AbortSignal;
  /** Called with the predictions that are compared so far. */
  readonly onTokens?: (tokens: number) => void;
}

/**
 * How much a model's predictions differ from a reference's, such as those of a quantized model from those of the same in
 * float32. Each text is given to both from its beginning; every token but its first is predicted.
 *
 * @param texts token ids
 * @throws ArgumentError for models of different vocabularies, or if no text has two tokens; ContextLengthError for a text
 *   that is too long; IntegrityError for logits that are not numbers
 */
export async function measureQuality(
  model: Model,
  reference: Model,
  texts: readonly (readonly number[])[],
  { signal, onTokens }: QualityOptions = {},
): Promise<Quality> {
  const { vocabSize } = reference.spec;
  if (model.spec.vocabSize !== vocabSize) {
    throw new ArgumentError(
      `The vocabularies have ${model.spec.vocabSize} and ${vocabSize} tokens.`,
      'Compare models of one vocabulary.',
    );
  }
  const comparison = new LogitComparison();
  let compared = 0;
  for (const text of texts) {
    const targets = text.slice(1);
    if (targets.length === 0) continue;
    const given = text.slice(0, -1);
    const options = { positions: 'all', ...(signal !== undefined && { signal }) } as const;
    comparison.add(await reference.logits(given, options), await model.logits(given, options), targets);
    compared += targets.length;
    onTokens?.(compared);
  }
  return comparison.result();
}

/** Parts of a text that are compared one by one, each with what the tokenizer puts in front of texts. */
export function textChunks(tokens: readonly number[], length: number, prefix: readonly number[]): number[][] {
  const own = length - prefix.length;
  if (own < 2) {
    throw new ArgumentError(`A part of ${length} tokens has no two of the text.`, 'Give a larger number of tokens.');
  }
  const count = Math.ceil(tokens.length / own);
  return Array.from({ length: count }, (_, index) => [...prefix, ...tokens.slice(index * own, (index + 1) * own)]);
}

function logSumExp(values: Float32Array): number {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - most);
  return most + Math.log(sum);
}

/** The first of the largest values. */
function largest(values: Float32Array): number {
  let at = 0;
  for (const [index, value] of values.entries()) if (value > (values[at] ?? -Infinity)) at = index;
  return at;
}
