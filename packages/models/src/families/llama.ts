import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec, LayerSpec, MlpSpec, MoeSpec, NormSpec } from '../spec/model_spec.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import type { MlpNames } from '../spec/weights/mlp.ts';
import type { MoeNames } from '../spec/weights/moe.ts';
import {
  attentionNames,
  DECODER_NAMES,
  gatedMlpNames,
  readAttention,
  readGatedMlp,
  STORED_FREQUENCIES,
} from './transformer.ts';

/**
 * Llama: attention with RoPE and SwiGLU in turn. A Hugging Face layer is two residual sub-layers here. `attention_bias`
 * is of all four projections, `mlp_bias` of all three.
 */
export function parseLlama(config: ConfigReader): ParsedModel {
  return llamaLike(config, 'llama', {});
}

/** What a family that is stored as Llama has of its own. */
export interface LlamaVariation {
  /** Of layer `index`, from what the common fields say. */
  readonly attention?: (attention: AttentionSpec, index: number) => AttentionSpec;
  readonly mlp?: (mlp: MlpSpec, index: number) => MlpSpec | MoeSpec;
  /** Names beside those of the four projections. */
  readonly attentionNames?: (prefix: string) => Partial<AttentionNames>;
  readonly mlpNames?: (prefix: string, index: number) => MlpNames | MoeNames;
  readonly norm?: Partial<NormSpec>;
  /** Names of the norms, in front of both blocks and, where there are such, behind them. */
  readonly norms?: LlamaNorms;
  readonly tiedEmbeddings?: boolean;
}

/** Names of the norms of a layer, without what leads to the layer. */
export interface LlamaNorms {
  readonly attention: string;
  readonly afterAttention?: string;
  readonly mlp: string;
  readonly afterMlp?: string;
}

const NORMS: LlamaNorms = { attention: 'input_layernorm', mlp: 'post_attention_layernorm' };

/** A model with Llama's layers, norms and names. */
export function llamaLike(config: ConfigReader, family: string, variation: LlamaVariation): ParsedModel {
  const norm: NormSpec = {
    kind: 'rms',
    // Families with other norms have other fields for it, and give it in `norm`.
    eps: variation.norm?.eps ?? config.number('rms_norm_eps', 1e-6),
    weightOffset: 0,
    ...variation.norm,
  };
  const { norms = NORMS } = variation;
  const common = readAttention(config);
  const gated = readGatedMlp(config);
  const layer = (block: AttentionSpec | MlpSpec | MoeSpec, after: string | undefined): LayerSpec => ({
    norms: [norm],
    blocks: [block],
    ...(after !== undefined && { postNorm: norm }),
  });
  const indices = Array.from({ length: config.size('num_hidden_layers') }, (_, index) => index);
  return {
    spec: {
      family,
      vocabSize: config.size('vocab_size'),
      hiddenSize: config.size('hidden_size'),
      layers: indices.flatMap((index) => [
        layer(variation.attention?.(common, index) ?? common, norms.afterAttention),
        layer(variation.mlp?.(gated, index) ?? gated, norms.afterMlp),
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
        const { mlpNames = gatedMlpNames } = variation;
        const after = (name: string | undefined): Pick<LayerNames, 'postNorm'> =>
          name === undefined ? {} : { postNorm: `${prefix}.${name}` };
        return [
          { norms: [`${prefix}.${norms.attention}`], blocks: [attention], ...after(norms.afterAttention) },
          { norms: [`${prefix}.${norms.mlp}`], blocks: [mlpNames(`${prefix}.mlp`, index)], ...after(norms.afterMlp) },
        ];
      }),
      ignored: [STORED_FREQUENCIES],
    },
  };
}
