import type { ImageModelV4, ProviderV4 } from '@ai-sdk/provider';
import { ArgumentError } from '@mambalab/kernels';
import type { LanguageModel } from '../language_model.ts';
import { embeddingModel } from './embedding_model.ts';
import type { EmbeddingModelSettings } from './embedding_model.ts';
import { languageModel } from './language_model.ts';
import type { LanguageModelSettings } from './language_model.ts';

export { embeddingModel } from './embedding_model.ts';
export type { EmbeddingModelSettings } from './embedding_model.ts';
export { languageModel } from './language_model.ts';
export type { LanguageModelSettings } from './language_model.ts';

/**
 * A provider of the AI SDK with several models, by the names that they get here; for `createProviderRegistry`. One model
 * alone needs only {@link languageModel}.
 */
export function createProvider(
  models: Readonly<Record<string, LanguageModel>>,
  settings: Omit<LanguageModelSettings & EmbeddingModelSettings, 'id'> = {},
): ProviderV4 {
  const get = (id: string): LanguageModel => {
    const model = Object.hasOwn(models, id) ? models[id] : undefined;
    if (model !== undefined) return model;
    throw new ArgumentError(`There is no model '${id}'.`, `There is: ${Object.keys(models).join(', ')}.`);
  };
  return {
    specificationVersion: 'v4',
    languageModel: (id) => languageModel(get(id), { ...settings, id }),
    embeddingModel: (id) => embeddingModel(get(id), { ...settings, id }),
    imageModel: (id): ImageModelV4 => {
      throw new ArgumentError(`'${id}' makes no images.`, 'Models here write text.');
    },
  };
}
