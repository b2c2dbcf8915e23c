import type { Tokenizer } from '../text/tokenizer.ts';
import type { GeneratedPiece, GenerationPlan, GenerationResult } from './generate.ts';
import { generateTokens } from './generate.ts';
import type { Sequence } from './sequence.ts';

/** A sequence lent to one generation, and how it goes back. */
export interface LentSequence {
  readonly sequence: Sequence;
  /** What is left to process of the prompt, where the sequence holds some of it; all of it when absent. */
  readonly prompt?: readonly number[];
  /** Called when the first token is there. */
  onPrompt?(): void;
  /** Called with every token that is handed out, before it is. */
  onToken?(token: number): void;
  release(): void;
}

/** What a generation needs of its model. */
export interface GenerationSetup {
  /** Without one, pieces have no text. */
  readonly tokenizer: Tokenizer | undefined;
  /** Throws for a bad prompt or option; called when the generation starts. */
  readonly plan: () => GenerationPlan;
  readonly acquire: (plan: GenerationPlan) => Promise<LentSequence>;
}

/**
 * A text in the making: iterate over it for its pieces, or await `result`, or both, in any order and any number of
 * times. It runs as fast as its fastest reader asks; when the last reader leaves before the end, it stops there.
 */
export class Generation implements AsyncIterable<GeneratedPiece> {
  readonly #progress = new Progress();
  readonly #source: AsyncGenerator<GeneratedPiece, GenerationResult>;
  readonly #pieces: GeneratedPiece[] = [];
  #outcome: Promise<GenerationResult> | undefined;
  #pulling: Promise<void> | undefined;
  #readers = 0;

  constructor(setup: GenerationSetup) {
    this.#source = runGeneration(setup, this.#progress);
  }

  /**
   * The whole text with its statistics. Asking for it runs the generation to its end; after a reader left early it is
   * what was written until then, with the finish reason `abort`. Rejects with `signal.reason` if the signal aborts.
   */
  get result(): Promise<GenerationResult> {
    return this.#drain();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPiece, void> {
    this.#readers += 1;
    try {
      for (let next = 0; ; next++) {
        while (next >= this.#pieces.length && this.#outcome === undefined) await this.#pull();
        const piece = this.#pieces[next];
        if (piece === undefined) {
          await this.#outcome;
          return;
        }
        yield piece;
      }
    } finally {
      this.#readers -= 1;
      if (this.#readers === 0 && this.#outcome === undefined) await this.#stop();
    }
  }

  /** The text as a stream of strings, one a token. */
  toReadableStream(): ReadableStream<string> {
    const pieces = this[Symbol.asyncIterator]();
    return new ReadableStream<string>({
      async pull(controller): Promise<void> {
        const { value, done } = await pieces.next();
        if (done === true) controller.close();
        else controller.enqueue(value.text);
      },
      async cancel(): Promise<void> {
        await pieces.return();
      },
    });
  }

  async #drain(): Promise<GenerationResult> {
    this.#readers += 1;
    try {
      while (this.#outcome === undefined) await this.#pull();
      return await this.#outcome;
    } finally {
      this.#readers -= 1;
    }
  }

  /** Advances by one piece, however many readers ask at the same time. */
  #pull(): Promise<void> {
    this.#pulling ??= this.#advance().finally(() => {
      this.#pulling = undefined;
    });
    return this.#pulling;
  }

  async #advance(): Promise<void> {
    try {
      const { value, done } = await this.#source.next();
      if (done === true) this.#outcome = Promise.resolve(value);
      else this.#pieces.push(value);
    } catch (error) {
      this.#outcome = Promise.reject(error);
      // Every reader awaits it; with none left, it must not end the process.
      this.#outcome.catch(() => undefined);
    }
  }

  async #stop(): Promise<void> {
    await this.#pulling;
    // A reader may have come while the last piece was on its way.
    if (this.#outcome !== undefined || this.#readers > 0) return;
    const result = this.#progress.result('abort');
    // Set at once: whoever comes while the generation winds up must not pull from it.
    this.#outcome = this.#source.return(result).then(() => result);
    this.#outcome.catch(() => undefined);
    await this.#outcome;
  }
}

/** What a generation has written so far, and when. */
class Progress {
  promptTokens = 0;
  readonly #tokens: number[] = [];
  readonly #texts: string[] = [];
  #started = 0;
  #firstToken = 0;

  start(): void {
    this.#started = performance.now();
    this.#firstToken = this.#started;
  }

  markFirstToken(): void {
    this.#firstToken = performance.now();
  }

  add(text: string, token: number): void {
    this.#texts.push(text);
    this.#tokens.push(token);
  }

  result(finishReason: GenerationResult['finishReason']): GenerationResult {
    const { promptTokens } = this;
    const tokens = [...this.#tokens];
    const prefillMs = this.#firstToken - this.#started;
    const decodeMs = tokens.length === 0 ? 0 : performance.now() - this.#firstToken;
    return {
      text: this.#texts.join(''),
      tokens,
      finishReason,
      usage: { promptTokens, completionTokens: tokens.length },
      timings: {
        timeToFirstTokenMs: prefillMs,
        prefillMs,
        decodeMs,
        prefillTokensPerSecond: prefillMs > 0 ? (promptTokens / prefillMs) * 1000 : 0,
        decodeTokensPerSecond: decodeMs > 0 ? ((tokens.length - 1) / decodeMs) * 1000 : 0,
      },
    };
  }
}

async function* runGeneration(
  setup: GenerationSetup,
  progress: Progress,
): AsyncGenerator<GeneratedPiece, GenerationResult> {
  progress.start();
  const plan = setup.plan();
  plan.signal?.throwIfAborted();
  progress.promptTokens = plan.prompt.length;
  const detokenizer = setup.tokenizer?.detokenizer({ skipSpecialTokens: true });
  let lastToken: number | undefined;
  const lent = await setup.acquire(plan);
  try {
    const source = generateTokens(lent.sequence, { ...plan, prompt: lent.prompt ?? plan.prompt }, () => {
      progress.markFirstToken();
      lent.onPrompt?.();
    });
    let finishReason: GenerationResult['finishReason'] | undefined;
    try {
      while (finishReason === undefined) {
        const { value, done } = await source.next();
        if (done === true) {
          finishReason = value;
        } else {
          const text = detokenizer?.push(value) ?? '';
          progress.add(text, value);
          lent.onToken?.(value);
          lastToken = value;
          yield { text, token: value };
        }
      }
    } finally {
      // Waits for steps on their way, so that the sequence goes back quiet.
      await source.return('abort');
    }
    plan.signal?.throwIfAborted();
    const result = progress.result(finishReason);
    const rest = detokenizer?.flush() ?? '';
    if (rest === '' || lastToken === undefined) return result;
    // What the last tokens left open belongs to the last of them.
    yield { text: rest, token: lastToken };
    return { ...result, text: result.text + rest };
  } finally {
    lent.release();
  }
}
