import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { AttentionSpec, LayerSpec, MlpSpec, NormSpec } from '../spec/model_spec.ts';
import { readRotary } from '../spec/rotary.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import type { MlpNames } from '../spec/weights/mlp.ts';
import type { StoredPart } from '../spec/weights/tensors.ts';
import { everyPeriod } from '../spec/weights/tensors.ts';
import { readHeads, STORED_FREQUENCIES } from './transformer.ts';

/**
 * GPT-NeoX (Pythia): layer norms, biases, GELU by the error function, RoPE on a part of each head (`rotary_pct`, a
 * quarter). With `use_parallel_residual`, attention and the feed-forward layer read the same stream, each through its own
 * norm, and both add to it; without, they follow each other. `query_key_value` holds the queries, keys and values of one
 * head after those of another. `attention_bias` is of both projections of attention; the feed-forward layer always has
 * its biases.
 */
export function parseGptNeoX(config: ConfigReader): ParsedModel {
  const attention = readNeoXAttention(config);
  const mlp: MlpSpec = {
    kind: 'mlp',
    intermediateSize: config.size('intermediate_size'),
    activation: readActivation(config, 'hidden_act', 'gelu'),
    gated: false,
    bias: true,
  };
  const norm: NormSpec = { kind: 'layer', eps: config.number('layer_norm_eps', 1e-5), weightOffset: 0 };
  const isParallel = config.boolean('use_parallel_residual', true);
  const hiddenSize = config.size('hidden_size');
  const indices = Array.from({ length: config.size('num_hidden_layers') }, (_, index) => index);
  return {
    spec: {
      family: 'gpt_neox',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: indices.flatMap((): LayerSpec[] =>
        isParallel
          ? [{ norms: [norm, norm], blocks: [attention, mlp] }]
          : [
              { norms: [norm], blocks: [attention] },
              { norms: [norm], blocks: [mlp] },
            ],
      ),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      contextLength: config.size('max_position_embeddings', 2048),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'gpt_neox.embed_in',
      finalNorm: 'gpt_neox.final_layer_norm',
      head: 'embed_out',
      layers: indices.flatMap((index): LayerNames[] => {
        const prefix = `gpt_neox.layers.${index}`;
        const norms = [`${prefix}.input_layernorm`, `${prefix}.post_attention_layernorm`];
        const blocks = [
          neoXAttentionNames(`${prefix}.attention`, attention, hiddenSize),
          neoXMlpNames(`${prefix}.mlp`),
        ];
        if (isParallel) return [{ norms, blocks }];
        return blocks.map((block, at) => ({ norms: norms.slice(at, at + 1), blocks: [block] }));
      }),
      // Masks that older versions of the library stored.
      ignored: [STORED_FREQUENCIES, /\.attention\.(masked_)?bias$/],
    },
  };
}

function readNeoXAttention(config: ConfigReader): AttentionSpec {
  const heads = readHeads(config);
  const bias = config.boolean('attention_bias', true);
  const rotary = readRotary(config, heads.headDim, {
    // Versions in between wrote both fields of the part that turns.
    partial: config.number('partial_rotary_factor', 0.25),
    contextLength: config.optionalSize('max_position_embeddings'),
    fields: { theta: 'rotary_emb_base', partial: 'rotary_pct' },
  });
  return { kind: 'attention', ...heads, rotary, qkvBias: bias, outputBias: bias };
}

function neoXAttentionNames(prefix: string, { heads, headDim }: AttentionSpec, hiddenSize: number): AttentionNames {
  const part = (index: number): StoredPart => ({
    name: `${prefix}.query_key_value`,
    shape: [3 * heads * headDim, hiddenSize],
    ranges: everyPeriod(heads, 3 * headDim, index * headDim, headDim),
  });
  return { kind: 'attention', query: part(0), key: part(1), value: part(2), output: `${prefix}.dense` };
}

function neoXMlpNames(prefix: string): MlpNames {
  return { kind: 'mlp', up: `${prefix}.dense_h_to_4h`, down: `${prefix}.dense_4h_to_h` };
}
