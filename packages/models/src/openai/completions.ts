import type { ModelSession } from '../language_model.ts';
import type { Answering, AnswerHead, ServedOrder } from './answering.ts';
import { allParts, answer, partsOf, withUsage } from './answering.ts';
import type { CompletionPart } from './completion_writer.ts';
import { appendLogprobs, CompletionWriter, emptyLogprobs } from './completion_writer.ts';
import type { EventStream } from './event_stream.ts';
import { promptLogprobs } from './prompt_logprobs.ts';
import type { ModelRegistry, RequestOptions, ServedModel } from './registry.ts';
import { Tally } from './registry.ts';
import { RequestReader } from './request_reader.ts';
import { isTokens, optionsOf, readResponseFormat, readTextOrder } from './sampling_fields.ts';
import type { Completion, CompletionChunk, CompletionRequest } from './types.ts';

/** A text to continue, as it was given. */
type GivenPrompt = string | readonly number[];

interface CompletionOrder extends ServedOrder {
  readonly prompts: readonly GivenPrompt[];
  readonly echo: boolean;
  readonly maxTokens: number;
  readonly logprobs: number | undefined;
}

/** What OpenAI writes where a request does not say how much. */
const MAX_TOKENS = 16;
const MOST_PROMPTS = 2048;

/** `completions`: texts that continue texts. */
export class Completions {
  readonly #registry: ModelRegistry;

  constructor(registry: ModelRegistry) {
    this.#registry = registry;
  }

  /**
   * Continues texts, or token ids: whole, or with `stream: true` in chunks as they are written. With `echo` and
   * `logprobs`, the tokens of the prompts are rated as well, as evaluation harnesses ask for.
   *
   * @throws APIError for a request that cannot be served; `signal.reason` when aborted
   */
  create(
    request: CompletionRequest & { readonly stream: true },
    options?: RequestOptions,
  ): Promise<EventStream<CompletionChunk>>;
  create(
    request: CompletionRequest & { readonly stream?: false | null },
    options?: RequestOptions,
  ): Promise<Completion>;
  create(request: CompletionRequest, options?: RequestOptions): Promise<Completion | EventStream<CompletionChunk>>;
  async create(
    request: CompletionRequest,
    options: RequestOptions = {},
  ): Promise<Completion | EventStream<CompletionChunk>> {
    return await answer(() => this.#read(request), TEXTS, options);
  }

  #read(request: unknown): CompletionOrder {
    const reader = new RequestReader(request);
    const served = this.#registry.of(reader);
    const text = readTextOrder(reader);
    const prompts = readPrompts(reader);
    const echo = reader.boolean('echo') ?? false;
    const logprobs = reader.integer('logprobs', 0, 20);
    const maxTokens = reader.integer('max_tokens', 0) ?? MAX_TOKENS;
    const responseFormat = readResponseFormat(reader);
    // The best of several texts by their probability; of as many as are asked for, that is all of them.
    const bestOf = reader.integer('best_of', 1);
    if (bestOf !== undefined && bestOf !== text.n) reader.refuse('best_of', "must equal 'n'", 'unsupported_value');
    if ((reader.string('suffix') ?? '') !== '') reader.refuse('suffix', 'is not supported', 'unsupported_value');
    reader.refuseOthers();
    return {
      ...text,
      served,
      prompts,
      echo,
      maxTokens,
      logprobs,
      options: {
        temperature: 1,
        ...text.options,
        ...(responseFormat !== undefined && { responseFormat }),
        ...(logprobs !== undefined && { logprobs }),
      },
    };
  }
}

function readPrompts(reader: RequestReader): readonly GivenPrompt[] {
  const given = reader.value('prompt');
  if (given === undefined || given === '') return [''];
  if (typeof given === 'string') return [given];
  if (!Array.isArray(given) || given.length === 0) {
    return reader.refuse(
      'prompt',
      'must be a text, token ids, or an array of either that is not empty',
      'invalid_type',
    );
  }
  if (given.length > 0 && isTokens(given)) return [given];
  if (given.length > MOST_PROMPTS) reader.refuse('prompt', `has more than ${MOST_PROMPTS} texts`);
  return given.map((prompt: unknown, index): GivenPrompt => {
    if (typeof prompt === 'string' || isTokens(prompt)) return prompt;
    return reader.refuse('prompt', `has neither a text nor token ids at ${index}`, 'invalid_type');
  });
}

/** A prompt as tokens; where it has none, what begins texts of the model, or else ends them. */
async function tokensOf({ model }: ServedModel, prompt: GivenPrompt): Promise<readonly number[]> {
  const tokens = typeof prompt === 'string' ? await model.tokenizer.encode(prompt) : prompt;
  if (tokens.length > 0) return tokens;
  const { bos, eos } = model.tokenizer.specialIds;
  const first = bos ?? eos;
  return first === undefined ? [] : [first];
}

/** Parts of the text number `choice`, which continues prompt number `choice / n`. */
async function* writeText(
  order: CompletionOrder,
  choice: number,
  tally: Tally,
  signal: AbortSignal | undefined,
): AsyncGenerator<CompletionPart, void> {
  const { served, prompts, n, echo, maxTokens, logprobs } = order;
  const { model } = served;
  const index = Math.floor(choice / n);
  const prompt = prompts[index] ?? '';
  const tokens = await tokensOf(served, prompt);
  const writer = new CompletionWriter(choice, logprobs === undefined ? undefined : served.names);
  const options = { ...optionsOf(order, choice % n, signal), maxTokens };
  let session: ModelSession | undefined;
  try {
    if (echo && logprobs !== undefined) {
      session = model.session({ prefixCache: false });
      const rated = await promptLogprobs(model, session, tokens, logprobs, signal);
      yield await writer.echo(await textOf(served, prompt), tokens, rated);
    } else if (echo) {
      yield await writer.echo(await textOf(served, prompt), tokens, []);
    }
    tally.prompt(index, tokens.length);
    if (maxTokens === 0) {
      yield writer.finish('length');
      return;
    }
    const text = session?.generate(options) ?? model.generate(tokens, options);
    yield* partsOf(
      text,
      writer,
      (result) => tally.written(choice, result.usage.completionTokens),
      (result) => writer.finish(result.finishReason === 'length' ? 'length' : 'stop'),
    );
  } finally {
    session?.dispose();
  }
}

async function textOf({ model }: ServedModel, prompt: GivenPrompt): Promise<string> {
  return typeof prompt === 'string' ? prompt : await model.tokenizer.decode(prompt, { skipSpecialTokens: true });
}

function partsOfAll(
  order: CompletionOrder,
  tally: Tally,
  options: RequestOptions,
): AsyncGenerator<CompletionPart, void> {
  const write = (choice: number): AsyncGenerator<CompletionPart, void> =>
    writeText(order, choice, tally, options.signal);
  return allParts(order, order.prompts.length * order.n, write, tally, options);
}

function chunksOf(
  order: CompletionOrder,
  head: AnswerHead,
  options: RequestOptions,
): AsyncGenerator<CompletionChunk, void> {
  const tally = new Tally();
  const chunk = (choices: CompletionChunk['choices']): CompletionChunk => ({
    ...head,
    object: 'text_completion',
    choices,
    ...(order.includeUsage && { usage: null }),
  });
  const last = (): CompletionChunk | undefined =>
    order.includeUsage ? { ...chunk([]), usage: tally.usage() } : undefined;
  return withUsage(chunksOfParts(partsOfAll(order, tally, options), chunk), last, options);
}

async function* chunksOfParts(
  parts: AsyncGenerator<CompletionPart, void>,
  chunk: (choices: CompletionChunk['choices']) => CompletionChunk,
): AsyncGenerator<CompletionChunk, void> {
  for await (const { choice: index, text, logprobs = null, finish = null } of parts) {
    if (text === '' && logprobs === null && finish === null) continue;
    yield chunk([{ index, text, logprobs, finish_reason: finish }]);
  }
}

async function wholeOf(order: CompletionOrder, head: AnswerHead, options: RequestOptions): Promise<Completion> {
  const tally = new Tally();
  const choices = Array.from({ length: order.prompts.length * order.n }, (_, index): Completion['choices'][number] => ({
    index,
    text: '',
    logprobs: order.logprobs === undefined ? null : emptyLogprobs(),
    finish_reason: 'stop',
  }));
  for await (const { choice: at, text, logprobs, finish } of partsOfAll(order, tally, options)) {
    const choice = choices[at];
    if (choice === undefined) continue;
    choice.text += text;
    if (choice.logprobs !== null && logprobs !== undefined) appendLogprobs(choice.logprobs, logprobs);
    choice.finish_reason = finish ?? choice.finish_reason;
  }
  return { ...head, object: 'text_completion', choices, usage: tally.usage() };
}

const TEXTS: Answering<CompletionOrder, Completion, CompletionChunk> = {
  idPrefix: 'cmpl-',
  whole: wholeOf,
  chunks: chunksOf,
};
