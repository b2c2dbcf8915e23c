import type { GenerationEvents, TokenStream } from './generate.ts';
import { checkToken, stepsAfterFirst } from './generate.ts';
import type { GenerationPlan } from './options.ts';
import type { SampledToken } from './sampling_control.ts';
import type { Sequence } from './sequence.ts';

/** Guesses what comes next. */
export interface Drafter {
  /** Up to `count` tokens that may follow all tokens so far. */
  propose(tokens: readonly number[], count: number): Promise<readonly number[]>;
  release(): void;
}

/** Tokens at the end that are looked for earlier in the text, the more the better. */
const LONGEST_MATCH = 3;

/** Guesses what followed the last tokens where they stood before. */
export const promptLookup: Drafter = {
  propose: (tokens, count) => {
    for (let length = Math.min(LONGEST_MATCH, tokens.length - 1); length > 0; length--) {
      const end = tokens.slice(-length);
      // The latest place counts.
      for (let at = tokens.length - length - 1; at >= 0; at--) {
        if (end.every((token, i) => tokens[at + i] === token)) {
          return Promise.resolve(tokens.slice(at + length, at + length + count));
        }
      }
    }
    return Promise.resolve([]);
  },
  release: () => undefined,
};

/** Guesses by a smaller model, whose sequence follows the text. */
export class ModelDrafter implements Drafter {
  readonly #sequence: Sequence;
  readonly #plan: GenerationPlan;
  readonly #contextLength: number;
  readonly #release: () => void;
  #consumed = 0;

  /** @param contextLength tokens that the smaller model can hold; it guesses nothing beyond */
  constructor(sequence: Sequence, plan: GenerationPlan, contextLength: number, release: () => void) {
    this.#sequence = sequence;
    this.#plan = plan;
    this.#contextLength = contextLength;
    this.#release = release;
  }

  async propose(tokens: readonly number[], count: number): Promise<readonly number[]> {
    const sequence = this.#sequence;
    if (count === 0 || tokens.length + count > this.#contextLength) return [];
    await sequence.prefill(tokens.slice(this.#consumed), this.#plan.signal);
    this.#consumed = tokens.length;
    // It draws with the numbers that the model will draw with: both choose the same token most often.
    const { logprobs: _, ...sampling } = this.#plan.sampling;
    await sequence.prepareSampling(sampling);
    await sequence.prepareMark();
    sequence.setSampling(sampling, tokens);
    await sequence.prepareSteps(count - 1);
    sequence.mark();
    const drafted: SampledToken[] = [await sequence.sample()];
    const pending: Promise<SampledToken>[] = [];
    while (drafted.length < count) {
      while (drafted.length + pending.length < count && sequence.freeSlots > 0) pending.push(sequence.next());
      const [next] = await Promise.all(pending.splice(0, 1));
      if (next !== undefined) drafted.push(next);
    }
    sequence.rewindToMark();
    return drafted.map(({ token }) => token);
  }

  release(): void {
    this.#release();
  }
}

/**
 * Writes the tokens that plain decoding would write, several in a pass: guessed tokens are processed together, and each
 * place of them draws its own token, by the settings and the random numbers of that place. As long as it is the guessed
 * one, the next place is valid as well. So the distribution is that of the model whatever was guessed, and with a seed
 * the text is the same as without guesses, but for logits that are equal up to rounding. A draft model draws with the
 * same random numbers (Gumbel coupling), so that it guesses right about as often as with the rule of rejection.
 *
 * Source: arXiv 2211.17192 (speculative decoding); arXiv 2408.07978 (drafts that share the random numbers).
 */
export async function* generateSpeculatively(
  sequence: Sequence,
  plan: GenerationPlan,
  drafter: Drafter,
  events: GenerationEvents,
): TokenStream {
  const { signal, stops, sampling } = plan;
  const tokens = [...plan.history, ...plan.prompt];
  await sequence.prefill(plan.prompt, signal);
  await sequence.prepareSampling(sampling);
  await sequence.prepareMark();
  sequence.setSampling(sampling, tokens);
  const first = await sequence.sample();
  events.onPrompt();
  checkToken(first);
  if (stops.has(first.token)) return 'stop';
  tokens.push(first.token);
  yield first;
  let left = stepsAfterFirst(sequence, plan);
  while (left > 0) {
    if (isAborted(signal)) return 'abort';
    const guessed = await drafter.propose(tokens, Math.min(plan.draft?.tokens ?? 0, left - 1));
    const last = tokens[tokens.length - 1] ?? 0;
    if (guessed.length > 0) sequence.mark();
    // Penalties look at what was really written.
    sequence.setSampling(sampling, tokens);
    const all = await sequence.sampleAfterEach([last, ...guessed], signal);
    const wrong = guessed.findIndex((token, place) => all[place]?.token !== token);
    const accepted = wrong < 0 ? guessed.length : wrong;
    events.onDraft(guessed.length, accepted);
    if (accepted < guessed.length) {
      sequence.rewindToMark();
      await sequence.advance([last, ...guessed.slice(0, accepted)], signal);
    }
    const chosen = all.slice(0, accepted + 1);
    for (const sampled of chosen) {
      checkToken(sampled);
      if (stops.has(sampled.token)) return 'stop';
      tokens.push(sampled.token);
      yield sampled;
      if (isAborted(signal)) return 'abort';
    }
    left -= chosen.length;
  }
  return 'length';
}

const isAborted = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;
