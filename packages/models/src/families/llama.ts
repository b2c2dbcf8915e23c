import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec, MlpSpec, NormSpec } from '../spec/model_spec.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import {
  attentionNames,
  DECODER_NAMES,
  gatedMlpNames,
  readAttention,
  readGatedMlp,
  STORED_FREQUENCIES,
} from './transformer.ts';

/** Llama: attention with RoPE and SwiGLU in turn. A Hugging Face layer is two residual sub-layers here. */
export function parseLlama(config: ConfigReader): ParsedModel {
  return llamaLike(config, 'llama', {});
}

/** What a family that is stored as Llama has of its own. */
export interface LlamaVariation {
  /** Of layer `index`, from what the common fields say. */
  readonly attention?: (attention: AttentionSpec, index: number) => AttentionSpec;
  readonly mlp?: (mlp: MlpSpec) => MlpSpec;
  /** Names beside those of the four projections. */
  readonly attentionNames?: (prefix: string) => Partial<AttentionNames>;
  readonly norm?: Partial<NormSpec>;
  readonly tiedEmbeddings?: boolean;
}

/** A model with Llama's layers, norms and names. */
export function llamaLike(config: ConfigReader, family: string, variation: LlamaVariation): ParsedModel {
  const norm: NormSpec = { kind: 'rms', eps: config.number('rms_norm_eps', 1e-6), weightOffset: 0, ...variation.norm };
  const common = readAttention(config);
  const gated = readGatedMlp(config);
  const mlp = variation.mlp?.(gated) ?? gated;
  const indices = Array.from({ length: config.size('num_hidden_layers') }, (_, index) => index);
  return {
    spec: {
      family,
      vocabSize: config.size('vocab_size'),
      hiddenSize: config.size('hidden_size'),
      layers: indices.flatMap((index) => [
        { norms: [norm], blocks: [variation.attention?.(common, index) ?? common] },
        { norms: [norm], blocks: [mlp] },
      ]),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', variation.tiedEmbeddings ?? false),
      contextLength: config.size('max_position_embeddings', 2048),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      ...DECODER_NAMES,
      layers: indices.flatMap((index): LayerNames[] => {
        const prefix = `model.layers.${index}`;
        const attention = {
          ...attentionNames(`${prefix}.self_attn`),
          ...variation.attentionNames?.(`${prefix}.self_attn`),
        };
        return [
          { norms: [`${prefix}.input_layernorm`], blocks: [attention] },
          { norms: [`${prefix}.post_attention_layernorm`], blocks: [gatedMlpNames(`${prefix}.mlp`)] },
        ];
      }),
      ignored: [STORED_FREQUENCIES],
    },
  };
}
