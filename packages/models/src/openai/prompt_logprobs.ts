import type { TokenLogprob } from '../generation/sampling_control.ts';
import type { LanguageModel, ModelSession } from '../language_model.ts';

/** How probable a token of a prompt was, and the most probable ones at its place. */
export interface PromptLogprob {
  readonly logprob: number;
  readonly tops: readonly TokenLogprob[];
}

/** Values of logits that are read at a time: 16 MiB. */
const VALUES = 2 ** 22;
const MOST_ROWS = 512;

/**
 * The log-probability of every token of a prompt but the first, with the `count` most probable ones at its place. The
 * prompt is added to a session a part at a time, so that memory does not grow with its length times the vocabulary.
 */
export async function promptLogprobs(
  model: LanguageModel,
  session: ModelSession,
  tokens: readonly number[],
  count: number,
  signal: AbortSignal | undefined,
): Promise<PromptLogprob[]> {
  const { vocabSize } = model.spec;
  const step = Math.max(1, Math.min(MOST_ROWS, Math.floor(VALUES / vocabSize)));
  const found: PromptLogprob[] = [];
  for (let from = 0; from < tokens.length; from += step) {
    const part = tokens.slice(from, from + step);
    const rows = await session.logits(part, 'all', signal);
    for (let row = 0; row < part.length; row++) {
      const next = tokens[from + row + 1];
      if (next !== undefined) found.push(logprobOf(rows.subarray(row * vocabSize, (row + 1) * vocabSize), next, count));
    }
  }
  return found;
}

/** log softmax of (V) logits at a token and at the `count` largest, in float64. */
function logprobOf(logits: Float32Array, token: number, count: number): PromptLogprob {
  const largest = largestOf(logits, Math.max(count, 1));
  const offset = logits[largest[0] ?? 0] ?? NaN;
  let mass = 0;
  for (const value of logits) mass += Math.exp(value - offset);
  const logprob = (id: number): number => (logits[id] ?? NaN) - offset - Math.log(mass);
  return { logprob: logprob(token), tops: largest.slice(0, count).map((id) => ({ token: id, logprob: logprob(id) })) };
}

/** The ids of the `count` largest values, the largest first; of equal ones the smaller id. */
function largestOf(values: Float32Array, count: number): number[] {
  const found: number[] = [];
  for (let id = 0; id < values.length; id++) {
    const value = values[id] ?? NaN;
    if (found.length === count && !(value > (values[found[count - 1] ?? 0] ?? NaN))) continue;
    let place = found.length;
    while (place > 0 && value > (values[found[place - 1] ?? 0] ?? NaN)) place -= 1;
    found.splice(place, 0, id);
    if (found.length > count) found.pop();
  }
  return found;
}
