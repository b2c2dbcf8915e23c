import type { GeneratedPiece, GenerationResult } from '../generation/generate.ts';
import type { TextStream } from '../language_model.ts';
import { apiErrorOf } from './api_error.ts';
import { EventStream, merge } from './event_stream.ts';
import type { RequestOptions, ServedModel, Tally } from './registry.ts';
import { randomId } from './registry.ts';
import type { TextOrder } from './sampling_fields.ts';

// What answers of chats and of completions have in common.

/** What is asked for, of one model. */
export interface ServedOrder extends TextOrder {
  readonly served: ServedModel;
}

/** What begins an answer, and each of its chunks. */
export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

/** How orders of a kind are answered. */
export interface Answering<Order, Whole, Chunk> {
  readonly idPrefix: string;
  whole(order: Order, head: AnswerHead, options: RequestOptions): Promise<Whole>;
  chunks(order: Order, head: AnswerHead, options: RequestOptions): AsyncGenerator<Chunk, void>;
}

/** Answers a request: whole, or in chunks, as it asks. @throws APIError; `signal.reason` when aborted */
export async function answer<Order extends ServedOrder, Whole, Chunk>(
  read: () => Order,
  { idPrefix, whole, chunks }: Answering<Order, Whole, Chunk>,
  options: RequestOptions,
): Promise<Whole | EventStream<Chunk>> {
  try {
    options.signal?.throwIfAborted();
    const order = read();
    const head = { id: randomId(idPrefix), created: Math.floor(Date.now() / 1000), model: order.served.id };
    if (order.stream) return await EventStream.open(chunks(order, head, options));
    return await whole(order, head, options);
  } catch (error) {
    throw apiErrorOf(error, options.signal);
  }
}

/** Chunks, and after them one with usage where it is asked for. @throws APIError; `signal.reason` when aborted */
export async function* withUsage<Chunk>(
  chunks: AsyncGenerator<Chunk, void>,
  last: () => Chunk | undefined,
  { signal }: RequestOptions,
): AsyncGenerator<Chunk, void> {
  try {
    yield* chunks;
    const usage = last();
    if (usage !== undefined) yield usage;
  } catch (error) {
    throw apiErrorOf(error, signal);
  }
}

/** Parts of `count` texts as they come, and what they took when they end. */
export async function* allParts<Part>(
  { served }: ServedOrder,
  count: number,
  write: (choice: number) => AsyncGenerator<Part, void>,
  tally: Tally,
  { onUsage }: RequestOptions,
): AsyncGenerator<Part, void> {
  try {
    yield* merge(Array.from({ length: count }, (_, choice) => write(choice)));
  } finally {
    onUsage?.(tally.usage(), served.id);
  }
}

/** Parts of one text; `count` is told what it took, also where its reader leaves. */
export async function* partsOf<Part>(
  text: TextStream,
  writer: { push(piece: GeneratedPiece): Promise<Part> },
  count: (result: GenerationResult) => void,
  finish: (result: GenerationResult) => Part,
): AsyncGenerator<Part, void> {
  let isWhole = false;
  try {
    for await (const piece of text) yield await writer.push(piece);
    isWhole = true;
  } finally {
    // What was written until the reader left counts; a failure was told already.
    if (!isWhole) await text.result.then(count, () => undefined);
  }
  const result = await text.result;
  count(result);
  yield finish(result);
}
