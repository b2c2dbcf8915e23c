import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  LanguageModelV4Usage,
  SharedV4Warning,
} from '@ai-sdk/provider';
import type { GenerationResult } from '../generation/generate.ts';
import type { Prompt } from '../generation/model.ts';
import type { LanguageModel } from '../language_model.ts';
import { ChatWriter } from '../openai/chat_writer.ts';
import { EventStream } from '../openai/event_stream.ts';
import { reasoningOf } from '../openai/reasoning.ts';
import { randomId } from '../openai/registry.ts';
import type { ChatMessage } from '../text/chat_template.ts';
import { chatMessages } from './prompt.ts';
import { callSettings } from './settings.ts';
import { contentOf, finishReason, StreamParts } from './stream_parts.ts';

export interface LanguageModelSettings {
  /** What the model is called; its family when absent. */
  readonly id?: string;
  /** Most tokens of an answer whose call does not say; 4096 when absent, and never beyond the context. */
  readonly maxTokens?: number;
  /** Writes conversations where the model has no chat template of its own. */
  readonly toPrompt?: (messages: readonly ChatMessage[]) => Prompt;
}

const MAX_TOKENS = 4096;

/**
 * A model for `generateText`, `streamText` and whatever else of the AI SDK takes one. The model stays the caller's to
 * dispose of.
 *
 * @param model of this realm, or in a worker
 */
export function languageModel(model: LanguageModel, settings: LanguageModelSettings = {}): LanguageModelV4 {
  const modelId = settings.id ?? model.spec.family;
  return {
    specificationVersion: 'v4',
    provider: 'mambalab',
    modelId,
    // Nothing is fetched from elsewhere.
    supportedUrls: {},
    doGenerate: (call) => generate(new Answer(model, settings, call), modelId),
    doStream: (call) => stream(new Answer(model, settings, call), modelId, call),
  };
}

/** One call, and what it has written. */
class Answer {
  readonly #model: LanguageModel;
  readonly #settings: LanguageModelSettings;
  readonly #call: LanguageModelV4CallOptions;
  readonly warnings: SharedV4Warning[] = [];

  constructor(model: LanguageModel, settings: LanguageModelSettings, call: LanguageModelV4CallOptions) {
    this.#model = model;
    this.#settings = settings;
    this.#call = call;
  }

  /** All parts of the answer; the last one is `finish`. */
  async *parts(): AsyncGenerator<LanguageModelV4StreamPart, void> {
    const { options, warnings } = callSettings(this.#call, this.#settings.maxTokens ?? MAX_TOKENS);
    this.warnings.push(...warnings);
    options.signal?.throwIfAborted();
    const messages = chatMessages(this.#call.prompt);
    const { toPrompt } = this.#settings;
    const prompt = toPrompt?.(messages) ?? messages;
    const reasoning = await reasoningOf(this.#model, messages, options);
    const writer = new ChatWriter({ choice: 0, names: undefined, reasoning, mostCalls: Infinity });
    const parts = new StreamParts();
    const text = this.#model.generate(prompt, options);
    for await (const piece of text) yield* parts.push(await writer.push(piece));
    const result = await text.result;
    const last = writer.finish(result);
    yield* parts.push(last);
    const usage = usageOf(result, writer.reasoningTokens);
    yield { type: 'finish', finishReason: finishReason(last.finish), usage, providerMetadata: metadataOf(result) };
  }
}

function usageOf({ usage }: GenerationResult, reasoning: number): LanguageModelV4Usage {
  const { promptTokens, completionTokens } = usage;
  return {
    inputTokens: { total: promptTokens, noCache: promptTokens, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: completionTokens, text: completionTokens - reasoning, reasoning },
  };
}

/** How fast it was. */
function metadataOf({ timings }: GenerationResult): { mambalab: { timings: Record<string, number> } } {
  return { mambalab: { timings: { ...timings } } };
}

async function generate(answer: Answer, modelId: string): Promise<LanguageModelV4GenerateResult> {
  const parts: LanguageModelV4StreamPart[] = [];
  for await (const part of answer.parts()) parts.push(part);
  const finish = parts.at(-1);
  if (finish?.type !== 'finish') throw new RangeError('An answer ends with its finish.');
  return {
    content: contentOf(parts),
    finishReason: finish.finishReason,
    usage: finish.usage,
    ...(finish.providerMetadata && { providerMetadata: finish.providerMetadata }),
    response: { id: randomId('gen-'), timestamp: new Date(), modelId },
    warnings: answer.warnings,
  };
}

async function stream(
  answer: Answer,
  modelId: string,
  { abortSignal }: LanguageModelV4CallOptions,
): Promise<LanguageModelV4StreamResult> {
  // With the first part there, a call that cannot be served is refused before its stream begins.
  const parts = await EventStream.open(answer.parts());
  const head: LanguageModelV4StreamPart[] = [
    { type: 'stream-start', warnings: answer.warnings },
    { type: 'response-metadata', id: randomId('gen-'), timestamp: new Date(), modelId },
  ];
  return {
    stream: new ReadableStream<LanguageModelV4StreamPart>(
      {
        start(controller): void {
          for (const part of head) controller.enqueue(part);
        },
        async pull(controller): Promise<void> {
          try {
            const { value, done } = await parts.next();
            if (done === true) controller.close();
            else controller.enqueue(value);
          } catch (error) {
            // An abort ends the stream; anything else is told in it.
            if (abortSignal?.aborted === true) throw error;
            controller.enqueue({ type: 'error', error });
            controller.close();
          }
        },
        async cancel(): Promise<void> {
          await parts.return();
        },
      },
      { highWaterMark: 0 },
    ),
  };
}
