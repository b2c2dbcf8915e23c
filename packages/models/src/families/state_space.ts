import type { ConfigReader } from '../spec/config.ts';
import type { Mamba2Spec, MambaSpec, NormSpec } from '../spec/model_spec.ts';
import type { BlockNames, ParsedModel } from '../spec/weight_spec.ts';

/** What a model of mixers alone is made of. */
export interface StateSpaceModel {
  readonly family: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly block: MambaSpec | Mamba2Spec;
  readonly mixerNames: (prefix: string) => BlockNames;
  readonly norm: NormSpec;
  readonly tiedEmbeddings: boolean;
  readonly eosTokens: readonly number[];
}

/**
 * The same mixer in every layer, each behind a norm, and nothing else: nothing bounds the context. Names are those of the
 * Hugging Face classes; checkpoints of mamba_ssm say `embedding` for `embeddings`, and those of mistral-inference put
 * `model.` before all names.
 */
export function stateSpaceModel(model: StateSpaceModel): ParsedModel {
  const { family, vocabSize, hiddenSize, block, norm, tiedEmbeddings, eosTokens } = model;
  const indices = Array.from({ length: model.layers }, (_, index) => index);
  return {
    spec: {
      family,
      vocabSize,
      hiddenSize,
      layers: indices.map(() => ({ norms: [norm], blocks: [block] })),
      finalNorm: norm,
      tiedEmbeddings,
      eosTokens,
    },
    names: {
      embedding: 'backbone.embeddings',
      finalNorm: 'backbone.norm_f',
      head: 'lm_head',
      layers: indices.map((index) => ({
        norms: [`backbone.layers.${index}.norm`],
        blocks: [model.mixerNames(`backbone.layers.${index}.mixer`)],
      })),
      prefixes: [
        { 'backbone.embeddings': 'backbone.embedding' },
        { 'backbone.embeddings': 'model.backbone.embedding', 'backbone.': 'model.backbone.', lm_head: 'model.lm_head' },
      ],
      ignored: [],
    },
  };
}

/** What configurations of the Hugging Face classes say beside the mixer. */
export function readStateSpace(
  config: ConfigReader,
  defaults: { readonly tiedEmbeddings: boolean },
): Omit<StateSpaceModel, 'family' | 'block' | 'mixerNames'> {
  return {
    vocabSize: config.size('vocab_size'),
    hiddenSize: config.size('hidden_size'),
    layers: config.size('num_hidden_layers'),
    norm: { kind: 'rms', eps: config.number('layer_norm_epsilon', 1e-5), weightOffset: 0 },
    tiedEmbeddings: config.boolean('tie_word_embeddings', defaults.tiedEmbeddings),
    eosTokens: config.tokens('eos_token_id'),
  };
}
