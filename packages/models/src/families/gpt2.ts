import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { AttentionSpec, MlpSpec, NormSpec } from '../spec/model_spec.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AttentionNames } from '../spec/weights/attention.ts';
import type { MlpNames } from '../spec/weights/mlp.ts';
import type { StoredPart } from '../spec/weights/tensors.ts';
import { divideHeads } from './transformer.ts';

/**
 * GPT-2: learned positions, layer norms, biases everywhere, GELU in its tanh form, the embedding's matrix as the head.
 * Matrices are stored transposed, and those of queries, keys and values as one. Names begin with `transformer.` or, in
 * the first checkpoints, with nothing. `reorder_and_upcast_attn` changes only how rounding goes.
 */
export function parseGpt2(config: ConfigReader): ParsedModel {
  config.refuse('add_cross_attention', [false]);
  const hiddenSize = config.size('n_embd');
  const intermediateSize = config.size('n_inner', 4 * hiddenSize);
  const positions = config.size('n_positions', 1024);
  const norm: NormSpec = { kind: 'layer', eps: config.number('layer_norm_epsilon', 1e-5), weightOffset: 0 };
  const mlp: MlpSpec = {
    kind: 'mlp',
    intermediateSize,
    activation: readActivation(config, 'activation_function', 'gelu_new'),
    gated: false,
    bias: true,
  };
  const indices = Array.from({ length: config.size('n_layer') }, (_, index) => index);
  return {
    spec: {
      family: 'gpt2',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      learnedPositions: positions,
      layers: indices.flatMap((index) => [
        { norms: [norm], blocks: [readGpt2Attention(config, index)] },
        { norms: [norm], blocks: [mlp] },
      ]),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', true),
      contextLength: positions,
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'transformer.wte',
      positions: 'transformer.wpe',
      finalNorm: 'transformer.ln_f',
      head: 'lm_head',
      layers: indices.flatMap((index): LayerNames[] => {
        const prefix = `transformer.h.${index}`;
        return [
          { norms: [`${prefix}.ln_1`], blocks: [gpt2AttentionNames(`${prefix}.attn`, hiddenSize)] },
          { norms: [`${prefix}.ln_2`], blocks: [gpt2MlpNames(`${prefix}.mlp`)] },
        ];
      }),
      prefixes: [{ 'transformer.': '' }],
      // Masks that older versions of the library stored.
      ignored: [/(^|\.)h\.\d+\.attn\.(masked_)?bias$/],
    },
  };
}

function readGpt2Attention(config: ConfigReader, layer: number): AttentionSpec {
  const heads = config.size('n_head');
  const headDim = divideHeads(config, 'n_head', 'n_embd');
  const scale = config.boolean('scale_attn_weights', true) ? 1 / Math.sqrt(headDim) : 1;
  const divisor = config.boolean('scale_attn_by_inverse_layer_idx', false) ? layer + 1 : 1;
  return { kind: 'attention', heads, kvHeads: heads, headDim, qkvBias: true, outputBias: true, scale: scale / divisor };
}

function gpt2AttentionNames(prefix: string, hiddenSize: number): AttentionNames {
  const part = (index: number): StoredPart => ({
    name: `${prefix}.c_attn`,
    shape: [hiddenSize, 3 * hiddenSize],
    ranges: [{ first: index * hiddenSize, count: hiddenSize }],
    transposed: true,
  });
  const output = { name: `${prefix}.c_proj`, transposed: true };
  return { kind: 'attention', query: part(0), key: part(1), value: part(2), output };
}

function gpt2MlpNames(prefix: string): MlpNames {
  const part = (name: string): StoredPart => ({ name: `${prefix}.${name}`, transposed: true });
  return { kind: 'mlp', up: part('c_fc'), down: part('c_proj') };
}
