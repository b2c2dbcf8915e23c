import { ArgumentError } from '@mambalab/kernels';
import type { Document } from './documents.ts';
import { readDocuments } from './documents.ts';
import { PairEncoder, truncateLeft } from './encode_pair.ts';
import { FewShots } from './few_shot.ts';
import type { Metric, TextScore } from './metrics.ts';
import { argmax, countBytes, countWords, Means, perplexity, textMetrics } from './metrics.ts';
import type { ScoreRequest, ScoringModel, TokenScore } from './asked_model.ts';
import type { Task } from './tasks.ts';

export interface TaskOptions {
  readonly fewShot: number;
  /** A file that examples are taken from; the documents' own when absent. */
  readonly examples?: string;
  readonly seed: number;
  /** Documents to ask about; all when absent. */
  readonly limit?: number;
  /** Tokens that are processed together at most; what the model takes when absent. */
  readonly maximumLength?: number;
}

/** What a file of documents came to so far. */
export interface TaskResult {
  readonly file: string;
  readonly documents: number;
  /** Contexts that were cut from the left. */
  readonly truncated: number;
  readonly metrics: readonly Metric[];
  /** Natural logarithms of the probabilities of what was asked about, a list for each document. */
  readonly logprobs: readonly (readonly number[])[];
  /** Of whole texts, what they count. */
  readonly texts?: readonly TextScore[];
}

/** Asks a model about the documents of one file. What is there so far can be had at any time. */
export class TaskRun {
  readonly #model: ScoringModel;
  readonly #task: Task;
  readonly #file: string;
  readonly #options: TaskOptions;
  readonly #encoder: PairEncoder;
  readonly #means = new Means();
  readonly #texts: TextScore[] = [];
  readonly #logprobs: number[][] = [];
  #truncated = 0;

  constructor(model: ScoringModel, task: Task, file: string, options: TaskOptions) {
    this.#model = model;
    this.#task = task;
    this.#file = file;
    this.#options = options;
    this.#encoder = new PairEncoder(model.tokenizer);
  }

  /**
   * @throws ArgumentError for a file or field that is not as the task needs it; ContextLengthError where what must be
   *   predicted does not fit into the model; `signal.reason` when aborted
   */
  async run(signal: AbortSignal, onDocument: (documents: number) => void = () => undefined): Promise<void> {
    const { limit = Infinity } = this.#options;
    const fewShots = await this.#fewShots();
    for await (const document of readDocuments(this.#file)) {
      if (this.#logprobs.length >= limit) break;
      this.#logprobs.push(await this.#ask(document, fewShots, signal));
      onDocument(this.#logprobs.length);
    }
  }

  get result(): TaskResult {
    const { kind } = this.#task;
    const documents = this.#logprobs.length;
    const extra: readonly Metric[] =
      documents === 0
        ? []
        : kind === 'text'
          ? textMetrics(this.#texts)
          : kind === 'continuation'
            ? [perplexity(this.#logprobs.flat())]
            : [];
    return {
      file: this.#file,
      documents,
      truncated: this.#truncated,
      metrics: [...this.#means.metrics(), ...extra],
      logprobs: this.#logprobs,
      ...(kind === 'text' ? { texts: this.#texts } : {}),
    };
  }

  async #fewShots(): Promise<FewShots> {
    const { fewShot: count, examples, seed } = this.#options;
    const pool: Document[] = [];
    // Only what examples are drawn from is kept in memory.
    if (count > 0) for await (const document of readDocuments(examples ?? this.#file)) pool.push(document);
    return new FewShots(this.#task, { count, pool, isOwnPool: examples === undefined, seed });
  }

  async #ask(document: Document, fewShots: FewShots, signal: AbortSignal): Promise<number[]> {
    const task = this.#task;
    const score = async (pairs: readonly (readonly [string, string])[]): Promise<TokenScore[]> =>
      await this.#model.score(
        pairs.map(([context, continuation]) => this.#fit(this.#encoder.encode(context, continuation), document)),
        signal,
      );
    switch (task.kind) {
      case 'choice': {
        const [prompt, choices, gold] = [task.prompt(document), task.choices(document), task.gold(document)];
        const context = fewShots.before(document) + prompt;
        const scores = await score(choices.map((choice) => [context, ` ${choice}`] as const));
        const logprobs = scores.map(({ logprob }) => logprob);
        for (const name of task.metrics) {
          // Lengths in characters, as Python counts them.
          const lengths = choices.map((choice) => (name === 'acc' ? 1 : [...choice].length));
          const best = argmax(logprobs.map((logprob, index) => logprob / (lengths[index] ?? NaN)));
          this.#means.add(name, best === gold ? 1 : 0);
        }
        return logprobs;
      }
      case 'prompt': {
        const before = fewShots.before(document);
        const continuation = ` ${task.continuation(document)}`;
        const scores = await score(task.prompts(document).map((prompt) => [before + prompt, continuation] as const));
        const logprobs = scores.map(({ logprob }) => logprob);
        this.#means.add('acc', argmax(logprobs) === task.gold(document) ? 1 : 0);
        return logprobs;
      }
      case 'continuation': {
        const context = fewShots.before(document) + task.prompt(document);
        const [found] = await score([[context, task.target(document)]]);
        this.#means.add('acc', found?.matches.every(Boolean) === true ? 1 : 0);
        return [found?.logprob ?? NaN];
      }
      case 'text': {
        const text = task.text(document);
        let logprob = 0;
        for (const window of this.#encoder.windows(text, this.#maximum)) {
          const [found] = await this.#model.score([window], signal);
          logprob += found?.logprob ?? NaN;
        }
        this.#texts.push({ logprob, words: countWords(text), bytes: countBytes(text) });
        return [logprob];
      }
    }
  }

  get #maximum(): number {
    return Math.min(this.#options.maximumLength ?? Infinity, this.#model.contextLength);
  }

  #fit(request: ScoreRequest, document: Document): ScoreRequest {
    if (request.continuation.length === 0) {
      throw new ArgumentError(`${document.place}: a continuation has no token.`, 'Give choices that are not empty.');
    }
    if (request.continuation.length > this.#maximum) {
      throw new ArgumentError(
        `${document.place}: a continuation has ${request.continuation.length} tokens; ${this.#maximum} are processed together.`,
        'Leave the document out, or raise --max-length if the model takes more.',
      );
    }
    const fitted = truncateLeft(request, this.#maximum);
    if (fitted !== request && fitted.context.length < request.context.length) this.#truncated += 1;
    return fitted;
  }
}
