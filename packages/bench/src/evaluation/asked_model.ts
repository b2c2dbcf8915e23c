import { ArgumentError, ContextLengthError } from '@mambalab/kernels';
import type { Model, Session, Tokenizer } from '@mambalab/models';
import { logprobOf } from '@mambalab/models';

/** Tokens, and what follows them. */
export interface ScoreRequest {
  readonly context: readonly number[];
  readonly continuation: readonly number[];
}

export interface TokenScore {
  /** Natural logarithm of the probability of the whole continuation. */
  readonly logprob: number;
  /** Whether greedy decoding would write each token, all before it given. */
  readonly matches: readonly boolean[];
}

/** Beginnings shorter than this are cheaper to process again than to copy. */
const SHORTEST_SHARED = 32;
/** Logits that are cheaper to look past than to make a pass of their own before them. */
const ONE_PASS_BYTES = 4 * 2 ** 20;
/** Logits of one call that may be in memory. */
const LOGITS_BYTES = 64 * 2 ** 20;

/** What tasks need of a model. */
export interface ScoringModel {
  readonly tokenizer: Tokenizer;
  /** Tokens that are processed together at most. */
  readonly contextLength: number;
  score(requests: readonly ScoreRequest[], signal: AbortSignal): Promise<TokenScore[]>;
}

/**
 * A model that scores continuations and writes answers. What is asked together shares its beginning: the tokens that all
 * contexts have in common are processed once, and continuations that differ in their last token alone are read from the
 * same logits. Memory does not grow with the number of requests, nor with the length of a continuation that is asked for
 * by itself.
 */
export class AskedModel implements ScoringModel {
  readonly #model: Model;
  #session: Session | undefined;

  constructor(model: Model) {
    this.#model = model;
  }

  get tokenizer(): Tokenizer {
    return this.#model.tokenizer;
  }

  get contextLength(): number {
    return this.#model.contextLength;
  }

  /**
   * @throws ArgumentError for a context or a continuation without tokens; ContextLengthError where the tokens are more
   *   than the model takes; IntegrityError for logits that are not numbers; `signal.reason` when aborted
   */
  async score(requests: readonly ScoreRequest[], signal: AbortSignal): Promise<TokenScore[]> {
    signal.throwIfAborted();
    const passes = new Map<string, Pass>();
    const places = requests.map(({ context, continuation }) => {
      this.#check(context, continuation);
      const input = [...context, ...continuation.slice(0, -1)];
      const from = context.length - 1;
      const key = `${from}:${input.join()}`;
      const pass = passes.get(key) ?? { input, from, readers: [] };
      passes.set(key, pass);
      const reader = new Reader(continuation);
      pass.readers.push(reader);
      return reader;
    });
    await this.#run([...passes.values()], signal);
    return places.map((reader) => reader.score);
  }

  /** What greedy decoding writes after tokens. Calls that are made without waiting are decoded together. */
  async write(tokens: readonly number[], maxTokens: number, signal: AbortSignal): Promise<string> {
    const { text } = await this.#model.generate(tokens, { maxTokens, temperature: 0, signal }).result;
    signal.throwIfAborted();
    return text;
  }

  /** Frees what was kept for the next requests; the model stays. */
  dispose(): void {
    this.#session?.dispose();
    this.#session = undefined;
  }

  async #run(passes: readonly Pass[], signal: AbortSignal): Promise<void> {
    const shared = commonLength(passes);
    const { vocabSize } = this.#model.spec;
    const fits = ({ input }: Pass): boolean => 4 * vocabSize * (input.length - shared) <= LOGITS_BYTES;
    const isShared = passes.length > 1 && shared >= SHORTEST_SHARED;
    const alone = isShared ? passes.filter((pass) => !fits(pass)) : passes;
    const together = isShared ? passes.filter(fits) : [];
    for (const pass of alone) await this.#stream(pass, signal);
    if (together.length === 0) return;
    const session = (this.#session ??= this.#model.session({ prefixCache: false }));
    session.reset();
    await session.append(together[0]?.input.slice(0, shared) ?? [], { signal });
    await session.checkpoint();
    for (const { input, from, readers } of together) {
      const rows = await this.#model.logits(input.slice(shared), { positions: 'all', session, signal });
      for (let row = from - shared; row < input.length - shared; row++) {
        const logits = rows.subarray(row * vocabSize, (row + 1) * vocabSize);
        for (const reader of readers) reader.read(logits);
      }
      await session.rewind(shared);
    }
  }

  /** One pass by itself, whose logits are looked at as they come. */
  async #stream({ input, from, readers }: Pass, signal: AbortSignal): Promise<void> {
    const start = 4 * this.#model.spec.vocabSize * input.length <= ONE_PASS_BYTES ? 0 : from;
    await this.#model.withSequence(input.length, async (sequence) => {
      if (start > 0) await sequence.advance(input.slice(0, start), signal);
      await sequence.prefillRows(input.slice(start), 'all', { signal }, (row, index) => {
        if (start + index < from) return;
        for (const reader of readers) reader.read(row);
      });
    });
  }

  #check(context: readonly number[], continuation: readonly number[]): void {
    if (context.length === 0 || continuation.length === 0) {
      throw new ArgumentError(
        `There is a ${context.length === 0 ? 'context' : 'continuation'} without tokens.`,
        'Give one token at least.',
      );
    }
    const needed = context.length + continuation.length - 1;
    const { contextLength } = this.#model;
    if (needed <= contextLength) return;
    throw new ContextLengthError(
      `${needed} tokens are needed; the model takes ${contextLength}.`,
      'Ask for less: fewer entries, a smaller length, fewer examples.',
    );
  }
}

/** Tokens to process, and what is read from the logits from some token on. */
interface Pass {
  readonly input: readonly number[];
  /** Index of the token whose logits predict the first token of the continuations. */
  readonly from: number;
  readonly readers: Reader[];
}

/** Reads the rows of logits (V) that predict a continuation, one after another. */
class Reader {
  readonly #tokens: readonly number[];
  #logprob = 0;
  readonly #matches: boolean[] = [];

  constructor(tokens: readonly number[]) {
    this.#tokens = tokens;
  }

  get score(): TokenScore {
    return { logprob: this.#logprob, matches: this.#matches };
  }

  read(logits: Float32Array): void {
    const { logprob, isLargest } = logprobOf(logits, this.#tokens[this.#matches.length] ?? 0);
    this.#logprob += logprob;
    this.#matches.push(isLargest);
  }
}

/** Tokens that all passes begin with, before any that is read from. */
function commonLength(passes: readonly Pass[]): number {
  const [first, ...others] = passes;
  if (first === undefined) return 0;
  let length = Math.min(...passes.map(({ from }) => from));
  for (const { input } of others) {
    let same = 0;
    while (same < length && input[same] === first.input[same]) same += 1;
    length = same;
  }
  return length;
}
