import type { EmbedTextsOptions } from '../generation/score.ts';
import type { LanguageModel } from '../language_model.ts';
import { ChatCompletions } from './chat_completions.ts';
import { Completions } from './completions.ts';
import { Embeddings } from './embeddings.ts';
import { ModelRegistry } from './registry.ts';
import type { ModelDescription, ModelList } from './types.ts';

export interface EngineOptions {
  /** The name of a model that is given alone; its family when absent. */
  readonly id?: string;
  /** Most tokens of an answer whose request does not say; 4096 when absent, and never beyond the context. */
  readonly maxTokens?: number;
  /** How vectors of texts are made; `mean` when absent. */
  readonly pooling?: EmbedTextsOptions['pooling'];
}

/** OpenAI's API over models of this process. */
export interface Engine {
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: Completions;
  readonly embeddings: Embeddings;
  readonly models: {
    list(): Promise<ModelList>;
    /** @throws APIError (404) for a name that no model has */
    retrieve(id: string): Promise<ModelDescription>;
  };
}

const MAX_TOKENS = 4096;

/**
 * Answers requests in the form of OpenAI's API, without a server: requests and answers are what the `openai` package
 * sends and returns. Requests at the same time are decoded together. The models stay the caller's to dispose of.
 *
 * @param models a model (of this realm, or in a worker), or several by the names that requests have for them
 * @throws ArgumentError without any model
 */
export function createEngine(
  models: LanguageModel | Readonly<Record<string, LanguageModel>>,
  options: EngineOptions = {},
): Engine {
  const registry = new ModelRegistry(isModel(models) ? { [options.id ?? models.spec.family]: models } : models);
  return {
    chat: { completions: new ChatCompletions(registry, options.maxTokens ?? MAX_TOKENS) },
    completions: new Completions(registry),
    embeddings: new Embeddings(registry, options.pooling),
    models: {
      list: () => Promise.resolve({ object: 'list', data: registry.list() }),
      // Async, so that an unknown name rejects.
      retrieve: async (id) => await Promise.resolve(registry.describe(id)),
    },
  };
}

function isModel(models: LanguageModel | Readonly<Record<string, LanguageModel>>): models is LanguageModel {
  return typeof models['generate'] === 'function';
}
