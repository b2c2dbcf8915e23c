import type { EmbeddingModelV4, SharedV4Warning } from '@ai-sdk/provider';
import type { EmbedTextsOptions } from '../generation/score.ts';
import type { LanguageModel } from '../language_model.ts';

export interface EmbeddingModelSettings {
  /** What the model is called; its family when absent. */
  readonly id?: string;
  /** How vectors of texts are made; `mean` when absent. */
  readonly pooling?: EmbedTextsOptions['pooling'];
}

/** A model for `embed` and `embedMany` of the AI SDK: a vector of length 1 for each text. */
export function embeddingModel(model: LanguageModel, settings: EmbeddingModelSettings = {}): EmbeddingModelV4 {
  const { pooling } = settings;
  return {
    specificationVersion: 'v4',
    provider: 'mambalab',
    modelId: settings.id ?? model.spec.family,
    maxEmbeddingsPerCall: undefined,
    // They wait for each other: one call with several texts is as good.
    supportsParallelCalls: false,
    doEmbed: async ({ values, dimensions, abortSignal }) => {
      abortSignal?.throwIfAborted();
      const { hiddenSize } = model.spec;
      const isOther = dimensions !== undefined && dimensions !== hiddenSize;
      const warnings: SharedV4Warning[] = isOther
        ? [{ type: 'unsupported', feature: 'dimensions', details: `Vectors have ${hiddenSize} values.` }]
        : [];
      const texts = await Promise.all(values.map((value) => model.tokenizer.encode(value)));
      const vectors = await model.embed(texts, {
        normalize: true,
        ...(pooling && { pooling }),
        ...(abortSignal && { signal: abortSignal }),
      });
      const tokens = texts.reduce((sum, { length }) => sum + length, 0);
      return { embeddings: vectors.map((vector) => [...vector]), usage: { tokens }, warnings };
    },
  };
}
