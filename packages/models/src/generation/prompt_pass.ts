import type { BoundPlan, Device, Plan, Tensor } from '@mambalab/kernels';
import { ArgumentError } from '@mambalab/kernels';
import type { PrefillHead } from '../graph/build.ts';
import { LENGTH } from '../graph/build.ts';
import { MAXIMUM_CHUNK } from '../graph/names.ts';
import type { ModelRuntime } from './runtime.ts';

/** What {@link PromptPass.rows} hands out: the logits of each token, or its hidden state. */
export type RowHead = 'all' | 'hidden';

export interface RowOptions {
  readonly signal?: AbortSignal | undefined;
  /** Hand out the row of the last token alone. */
  readonly lastOnly?: boolean;
}

/** The sequence that a prompt is for. */
export interface PromptTarget {
  readonly capacity: number;
  readonly length: number;
  /** Makes room for so many tokens in all. */
  reserve(length: number): Promise<void>;
  /** @throws ArgumentError if it is disposed */
  bind(plan: Plan): BoundPlan;
  advance(count: number): void;
}

export interface PassOptions {
  readonly signal: AbortSignal | undefined;
  /** Most tokens of a chunk. */
  readonly limit?: number;
}

const HEAD_OUTPUTS: Readonly<Record<RowHead, string>> = { all: 'allLogits', hidden: 'hidden' };

/** Bytes of rows that are read back at a time. */
const ROWS_BYTES = 64 * 2 ** 20;

/** Tokens of a chunk whose rows of `width` values take no more than {@link ROWS_BYTES}. */
function chunkLimitFor(width: number): number {
  return Math.min(MAXIMUM_CHUNK, Math.max(8, Math.floor(ROWS_BYTES / (4 * width))));
}

/** Processes prompts in chunks, with memory that does not grow with their length. */
export class PromptPass {
  readonly #runtime: ModelRuntime;
  readonly #device: Device;
  readonly #tokens: Tensor;
  readonly #target: PromptTarget;

  /** @param tokens where the kernels read the tokens of a chunk */
  constructor(runtime: ModelRuntime, tokens: Tensor, target: PromptTarget) {
    this.#runtime = runtime;
    this.#device = runtime.device;
    this.#tokens = tokens;
    this.#target = target;
  }

  /**
   * Processes tokens.
   *
   * @param headOf what the chunk that is the last, or not, leaves
   * @param after called when a chunk was submitted; what the plan gave is its own until this resolves
   * @throws ContextLengthError if the sequence would outgrow the model's context; ArgumentError for a token id outside
   *   the vocabulary, or no token at all
   */
  async run(
    tokens: readonly number[],
    { signal, limit = MAXIMUM_CHUNK }: PassOptions,
    headOf: (isLast: boolean) => PrefillHead,
    after?: (plan: Plan, first: number, count: number) => Promise<void>,
  ): Promise<void> {
    this.checkTokens(tokens);
    if (tokens.length === 0) {
      throw new ArgumentError(
        'There is no token to process.',
        'Give a prompt, or start with the beginning-of-sequence token.',
      );
    }
    const target = this.#target;
    await target.reserve(target.length + tokens.length);
    let previous: Promise<void> | undefined;
    for (let first = 0; first < tokens.length; first += limit) {
      signal?.throwIfAborted();
      const chunk = Uint32Array.from(tokens.slice(first, first + limit));
      const head = headOf(first + chunk.length === tokens.length);
      const plan = await this.#runtime.prefillPlan(chunk.length, head, target.capacity);
      const bound = target.bind(plan);
      this.#device.write(this.#tokens, chunk);
      bound.submit({ [LENGTH]: chunk.length });
      target.advance(chunk.length);
      await after?.(plan, first, chunk.length);
      // Two chunks are on their way at most: an abort takes effect before the next, and others get their turn.
      const submitted = first + limit < tokens.length ? this.#device.idle() : undefined;
      submitted?.catch(() => undefined);
      await previous;
      previous = submitted;
    }
  }

  /**
   * Processes tokens and hands out a row for every one, in their order: its logits (V), or its hidden state after the
   * last norm (D). A row is valid during the call alone.
   */
  async rows(
    tokens: readonly number[],
    head: RowHead,
    { signal, lastOnly = false }: RowOptions,
    visit: (row: Float32Array, index: number) => void,
  ): Promise<void> {
    const { vocabSize, hiddenSize } = this.#runtime.spec;
    const width = head === 'all' ? vocabSize : hiddenSize;
    const last = tokens.length - 1;
    await this.run(
      tokens,
      { signal, limit: chunkLimitFor(width) },
      (isLast) => (lastOnly && !isLast ? 'none' : head),
      async (plan, first, count) => {
        const skipped = lastOnly ? last - first : 0;
        if (skipped >= count) return;
        const { buffer, rowStride } = plan.output(HEAD_OUTPUTS[head]);
        const bytes = (count - skipped) * rowStride * 4;
        const values = new Float32Array(await this.#device.readBuffer(buffer, skipped * rowStride * 4, bytes));
        for (let row = 0; row < count - skipped; row++) {
          visit(values.subarray(row * rowStride, row * rowStride + width), first + skipped + row);
        }
      },
    );
  }

  /** @throws ArgumentError for a token id outside the vocabulary */
  checkTokens(tokens: readonly number[]): void {
    checkTokens(tokens, this.#runtime.spec.vocabSize);
  }
}

/** @throws ArgumentError for a token id outside a vocabulary */
export function checkTokens(tokens: readonly number[], vocabSize: number): void {
  const wrong = tokens.findIndex((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
  if (wrong < 0) return;
  throw new ArgumentError(
    `Token ${wrong} is ${String(tokens[wrong])}; ids of this model run from 0 to ${vocabSize - 1}.`,
    'Encode the text with the tokenizer of this model.',
  );
}
