import type { ConfigReader } from '../spec/config.ts';
import type { BlockSpec, LayerSpec, ModelSpec, NormSpec } from '../spec/model_spec.ts';
import type { BlockNames, LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import { DECODER_NAMES, STORED_FREQUENCIES } from './transformer.ts';

/** A block and the names of its tensors. */
export interface NamedBlock {
  readonly block: BlockSpec;
  readonly names: BlockNames;
}

/** A decoder layer of the Hugging Face classes: mixers that read one norm, then a feed-forward layer. */
export interface DecoderLayer {
  readonly mixers: readonly NamedBlock[];
  readonly feedForward: NamedBlock;
}

export interface Decoder {
  readonly family: string;
  /** Of layer `index`, whose names begin with `prefix`. */
  readonly layer: (index: number, prefix: string) => DecoderLayer;
  /** Names in a layer of the norms in front of the mixers and of the feed-forward layer. */
  readonly norms: readonly [string, string];
  readonly finalNorm: string;
  /** What multiplies embeddings and logits. */
  readonly scales?: Pick<ModelSpec, 'embeddingScale' | 'logitScale'>;
}

/**
 * A model of decoder layers, each of which is two residual sub-layers here. Without attention nothing bounds the context,
 * whatever the configuration says of positions.
 */
export function decoderModel(config: ConfigReader, decoder: Decoder): ParsedModel {
  const norm: NormSpec = { kind: 'rms', eps: config.number('rms_norm_eps', 1e-6), weightOffset: 0 };
  const layers: LayerSpec[] = [];
  const layerNames: LayerNames[] = [];
  for (let index = 0; index < config.size('num_hidden_layers'); index++) {
    const prefix = `model.layers.${index}`;
    const { mixers, feedForward } = decoder.layer(index, prefix);
    for (const [at, blocks] of [mixers, [feedForward]].entries()) {
      layers.push({ norms: [norm], blocks: blocks.map(({ block }) => block) });
      layerNames.push({ norms: [`${prefix}.${decoder.norms[at]}`], blocks: blocks.map(({ names }) => names) });
    }
  }
  const attends = layers.some(({ blocks }) => blocks.some(({ kind }) => kind === 'attention'));
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    spec: {
      family: decoder.family,
      vocabSize: config.size('vocab_size'),
      hiddenSize: config.size('hidden_size'),
      ...decoder.scales,
      layers,
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      ...(contextLength !== undefined && attends && { contextLength }),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      ...DECODER_NAMES,
      finalNorm: decoder.finalNorm,
      layers: layerNames,
      ignored: [STORED_FREQUENCIES],
    },
  };
}
