import type { GenerationResult } from '../generation/generate.ts';
import type { ChatMessage } from '../text/chat_template.ts';
import type { Answering, AnswerHead, ServedOrder } from './answering.ts';
import { allParts, answer, partsOf, withUsage } from './answering.ts';
import type { ChatPart } from './chat_writer.ts';
import { ChatWriter } from './chat_writer.ts';
import type { EventStream } from './event_stream.ts';
import { readMessages } from './messages.ts';
import type { Reasoning } from './reasoning.ts';
import { reasoningOf } from './reasoning.ts';
import type { ModelRegistry, RequestOptions } from './registry.ts';
import { Tally } from './registry.ts';
import { RequestReader } from './request_reader.ts';
import { optionsOf, readResponseFormat, readTextOrder } from './sampling_fields.ts';
import type { ToolOrder } from './tools.ts';
import { callFormat, readTools } from './tools.ts';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatTokenLogprob,
  ChatToolCall,
  FinishReason,
} from './types.ts';

interface ChatOrder extends ServedOrder {
  readonly messages: readonly ChatMessage[];
  readonly tools: ToolOrder | undefined;
  readonly logprobs: boolean;
  readonly mostCalls: number;
}

/** `chat.completions` */
export class ChatCompletions {
  readonly #registry: ModelRegistry;
  readonly #maxTokens: number;

  constructor(registry: ModelRegistry, maxTokens: number) {
    this.#registry = registry;
    this.#maxTokens = maxTokens;
  }

  /**
   * Answers a conversation: whole, or with `stream: true` in chunks as they are written.
   *
   * @throws APIError for a request that cannot be served; `signal.reason` when aborted
   */
  create(
    request: ChatCompletionRequest & { readonly stream: true },
    options?: RequestOptions,
  ): Promise<EventStream<ChatCompletionChunk>>;
  create(
    request: ChatCompletionRequest & { readonly stream?: false | null },
    options?: RequestOptions,
  ): Promise<ChatCompletion>;
  create(
    request: ChatCompletionRequest,
    options?: RequestOptions,
  ): Promise<ChatCompletion | EventStream<ChatCompletionChunk>>;
  async create(
    request: ChatCompletionRequest,
    options: RequestOptions = {},
  ): Promise<ChatCompletion | EventStream<ChatCompletionChunk>> {
    return await answer(() => this.#read(request), CHATS, options);
  }

  #read(request: unknown): ChatOrder {
    const reader = new RequestReader(request);
    const served = this.#registry.of(reader);
    const text = readTextOrder(reader);
    reader.ignore('prompt_cache_key', 'prompt_cache_retention', 'prompt_cache_options');
    const messages = readMessages(reader);
    const tools = readTools(reader);
    const logprobs = reader.boolean('logprobs') ?? false;
    const tops = reader.integer('top_logprobs', 0, 20);
    if (tops !== undefined && !logprobs) reader.refuse('top_logprobs', "needs 'logprobs' to be true");
    const format = readResponseFormat(reader);
    const responseFormat = tools === undefined ? format : formatWithTools(reader, tools, format);
    const maxTokens = reader.integer('max_completion_tokens', 1) ?? reader.integer('max_tokens', 1);
    // Both names are read: the older one counts where the newer is absent.
    reader.ignore('max_tokens');
    const mostCalls = reader.boolean('parallel_tool_calls') === false ? 1 : Infinity;
    reader.refuseOthers();
    return {
      ...text,
      served,
      messages,
      tools,
      logprobs,
      mostCalls,
      options: {
        ...text.options,
        maxTokens: maxTokens ?? this.#maxTokens,
        ...(responseFormat !== undefined && { responseFormat }),
        ...(tools !== undefined && { tools: tools.tools }),
        ...(logprobs && { logprobs: tops ?? 0 }),
      },
    };
  }
}

function formatWithTools(
  reader: RequestReader,
  { functions, isForced }: ToolOrder,
  format: ReturnType<typeof readResponseFormat>,
): ReturnType<typeof readResponseFormat> {
  if (isForced) return callFormat(functions);
  if (format === undefined) return undefined;
  // A call and an answer are both JSON then, and the model chooses.
  return (
    callFormat(functions, format) ?? reader.refuse('response_format', `of the type '${format.type}' allows no tools`)
  );
}

/** Parts of one answer as they become known. */
async function* writeAnswer(
  order: ChatOrder,
  choice: number,
  reasoning: Reasoning | undefined,
  tally: Tally,
  signal: AbortSignal | undefined,
): AsyncGenerator<ChatPart, void> {
  const { served, messages, logprobs, mostCalls } = order;
  const names = logprobs ? served.names : undefined;
  const writer = new ChatWriter({ choice, names, reasoning, mostCalls });
  const text = served.model.generate(messages, optionsOf(order, choice, signal));
  const count = ({ usage }: GenerationResult): void => {
    tally.prompt(0, usage.promptTokens);
    tally.written(choice, usage.completionTokens);
    tally.reasoning(choice, writer.reasoningTokens);
  };
  yield* partsOf(text, writer, count, (result) => writer.finish(result));
}

async function* partsOfAll(order: ChatOrder, tally: Tally, options: RequestOptions): AsyncGenerator<ChatPart, void> {
  const reasoning = await reasoningOf(order.served.model, order.messages, order.options);
  const write = (choice: number): AsyncGenerator<ChatPart, void> =>
    writeAnswer(order, choice, reasoning, tally, options.signal);
  yield* allParts(order, order.n, write, tally, options);
}

function chunksOf(
  order: ChatOrder,
  head: AnswerHead,
  options: RequestOptions,
): AsyncGenerator<ChatCompletionChunk, void> {
  const tally = new Tally();
  const chunk = (choices: ChatCompletionChunk['choices']): ChatCompletionChunk => ({
    ...head,
    object: 'chat.completion.chunk',
    choices,
    ...(order.includeUsage && { usage: null }),
  });
  const last = (): ChatCompletionChunk | undefined =>
    order.includeUsage ? { ...chunk([]), usage: tally.usage() } : undefined;
  return withUsage(chunksOfParts(partsOfAll(order, tally, options), chunk), last, options);
}

async function* chunksOfParts(
  parts: AsyncGenerator<ChatPart, void>,
  chunk: (choices: ChatCompletionChunk['choices']) => ChatCompletionChunk,
): AsyncGenerator<ChatCompletionChunk, void> {
  const begun = new Set<number>();
  for await (const { choice: index, delta, logprobs, finish } of parts) {
    const common = { index, finish_reason: null };
    if (!begun.has(index)) {
      begun.add(index);
      yield chunk([{ ...common, delta: { role: 'assistant', content: '' }, logprobs: null }]);
    }
    if (Object.keys(delta).length > 0 || logprobs.length > 0) {
      const content = logprobs.length > 0 ? { content: [...logprobs], refusal: null } : null;
      yield chunk([{ ...common, delta, logprobs: content }]);
    }
    if (finish !== undefined) yield chunk([{ index, delta: {}, logprobs: null, finish_reason: finish }]);
  }
}

/** An answer that is put together of its parts. */
class Answer {
  readonly #text: string[] = [];
  readonly #reasoning: string[] = [];
  #calls: readonly ChatToolCall[] = [];
  readonly #logprobs: ChatTokenLogprob[] = [];
  #finish: FinishReason = 'stop';

  add({ delta, logprobs, finish, calls }: ChatPart): void {
    this.#text.push(delta.content ?? '');
    this.#reasoning.push(delta.reasoning_content ?? '');
    this.#logprobs.push(...logprobs);
    this.#finish = finish ?? this.#finish;
    this.#calls = calls ?? this.#calls;
  }

  choice(index: number, hasLogprobs: boolean): ChatCompletion['choices'][number] {
    const content = this.#text.join('');
    const reasoning = this.#reasoning.join('');
    const calls = [...this.#calls];
    return {
      index,
      message: {
        role: 'assistant',
        content: content === '' && calls.length > 0 ? null : content,
        refusal: null,
        ...(reasoning !== '' && { reasoning_content: reasoning }),
        ...(calls.length > 0 && { tool_calls: calls }),
      },
      logprobs: hasLogprobs ? { content: this.#logprobs, refusal: null } : null,
      finish_reason: this.#finish,
    };
  }
}

async function wholeOf(order: ChatOrder, head: AnswerHead, options: RequestOptions): Promise<ChatCompletion> {
  const tally = new Tally();
  const answers = Array.from({ length: order.n }, () => new Answer());
  for await (const part of partsOfAll(order, tally, options)) answers[part.choice]?.add(part);
  const choices = answers.map((answer, index) => answer.choice(index, order.logprobs));
  return { ...head, object: 'chat.completion', choices, usage: tally.usage() };
}

const CHATS: Answering<ChatOrder, ChatCompletion, ChatCompletionChunk> = {
  idPrefix: 'chatcmpl-',
  whole: wholeOf,
  chunks: chunksOf,
};
