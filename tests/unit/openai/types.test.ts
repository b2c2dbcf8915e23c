import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  Completion,
  CompletionChunk,
  CompletionLogprobs,
  CompletionRequest,
  EmbeddingRequest,
  EmbeddingResponse,
  ModelDescription,
} from '@mambalab/models/openai';
import type OpenAI from 'openai';
import { describe, expectTypeOf, it } from 'vitest';

// Types are checked when the project is: a request of the official package is a request here, and what is answered here
// is what the package says that it is.

type Chat = OpenAI.Chat.Completions.ChatCompletionCreateParams;

describe('types of the official package', () => {
  it('fit requests', () => {
    expectTypeOf<Chat>().toExtend<ChatCompletionRequest>();
    expectTypeOf<OpenAI.Completions.CompletionCreateParams>().toExtend<CompletionRequest>();
    expectTypeOf<OpenAI.Embeddings.EmbeddingCreateParams>().toExtend<EmbeddingRequest>();
  });

  it('fit answers', () => {
    expectTypeOf<ChatCompletion>().toExtend<OpenAI.Chat.Completions.ChatCompletion>();
    expectTypeOf<ChatCompletionChunk>().toExtend<OpenAI.Chat.Completions.ChatCompletionChunk>();
    expectTypeOf<EmbeddingResponse>().toExtend<OpenAI.Embeddings.CreateEmbeddingResponse>();
    expectTypeOf<ModelDescription>().toExtend<OpenAI.Models.Model>();
  });

  it('fit completions, but for `null`, which the package leaves out and the service sends', () => {
    type Whole<T> = { [Key in keyof T]: T[Key] extends (infer Item)[] ? Exclude<Item, null>[] : T[Key] };
    type Choice<T> = Omit<T, 'logprobs' | 'finish_reason'> & {
      logprobs: Whole<CompletionLogprobs> | null;
      finish_reason: 'stop' | 'length';
    };
    type Fitting<T extends Completion | CompletionChunk> = Omit<T, 'choices' | 'usage'> & {
      choices: Choice<T['choices'][number]>[];
    };
    expectTypeOf<Fitting<Completion>>().toExtend<OpenAI.Completions.Completion>();
    expectTypeOf<Fitting<CompletionChunk>>().toExtend<OpenAI.Completions.Completion>();
  });
});
