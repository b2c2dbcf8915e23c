import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { LayerSpec, Mamba2Spec, NormSpec, SharedBlockSpec } from '../spec/model_spec.ts';
import { readRotary } from '../spec/rotary.ts';
import type { LayerNames, ParsedModel } from '../spec/weight_spec.ts';
import type { AdapterNames, SharedBlockNames, SharedUseNames } from '../spec/weights/shared_block.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, readLayerKinds } from './transformer.ts';

type LayerKind = 'mamba2' | 'hybrid';

const WORDS: Readonly<Record<string, LayerKind>> = { mamba: 'mamba2', linear_attention: 'mamba2', hybrid: 'hybrid' };

/** Of the gated norm: fixed, whatever `rms_norm_eps` says. */
const GATE_NORM_EPS = 1e-5;

/**
 * Zamba2: Mamba-2 layers, some of which take the output of a Transformer block into what their norm reads. The model has
 * `num_mem_blocks` of these blocks, which the hybrid layers use in turn, each with adapters of its own. A block reads the
 * residual stream beside the embeddings of the tokens; the scale of its attention is that of heads half as wide.
 *
 * The convolution has a bias, whatever `use_conv_bias` says. `time_step_min` bounds only how dt was initialised: the
 * Hugging Face class clamps dt with it in prefill and not in decoding, and the models were trained without.
 */
export function parseZamba2(config: ConfigReader): ParsedModel {
  const kinds = layerKinds(config);
  const hiddenSize = config.size('hidden_size');
  const norm: NormSpec = { kind: 'rms', eps: config.number('rms_norm_eps', 1e-5), weightOffset: 0 };
  const mixer = readMixer(config, hiddenSize);
  const hybrids = kinds.flatMap((kind, index) => (kind === 'hybrid' ? [index] : []));
  // The layers that come first with each block, under which the checkpoint holds it.
  const owners = hybrids.slice(0, config.size('num_mem_blocks', 1));
  const block = hybrids.length === 0 ? undefined : readSharedBlock(config, hiddenSize, norm);
  const contextLength = config.size('max_position_embeddings', 4096);
  const blockOf = (use: number): number => use % owners.length;
  return {
    spec: {
      family: 'zamba2',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: kinds.map((kind, index): LayerSpec => ({
        norms: [norm],
        blocks: [mixer],
        ...(kind === 'hybrid' && { sharedBlock: blockOf(hybrids.indexOf(index)) }),
      })),
      ...(block && { sharedBlocks: owners.map(() => block), contextLength }),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', true),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'model.embed_tokens',
      finalNorm: 'model.final_layernorm',
      head: 'lm_head',
      layers: kinds.map((kind, index): LayerNames => {
        const prefix = `model.layers.${index}`;
        const mamba = kind === 'hybrid' ? `${prefix}.mamba_decoder` : prefix;
        const use = hybrids.indexOf(index);
        return {
          norms: [`${mamba}.input_layernorm`],
          blocks: [mamba2Names(`${mamba}.mamba`)],
          ...(block &&
            kind === 'hybrid' && {
              sharedUse: useNames(blockPrefix(owners[blockOf(use)]), use, `${prefix}.linear`, block),
            }),
        };
      }),
      ...(block && { sharedBlocks: owners.map((layer) => blockNames(blockPrefix(layer))) }),
      // Some checkpoints repeat a block in every layer that uses it.
      ignored: hybrids
        .filter((layer) => !owners.includes(layer))
        .map((layer) => new RegExp(`^model\\.layers\\.${layer}\\.shared_transformer\\.`)),
    },
  };
}

const blockPrefix = (layer: number | undefined): string => `model.layers.${layer}.shared_transformer`;

function readMixer(config: ConfigReader, hiddenSize: number): Mamba2Spec {
  const inner = Math.trunc(config.number('mamba_expand', 2) * hiddenSize);
  const heads = config.size('n_mamba_heads');
  const groups = config.size('mamba_ngroups', 1);
  if (inner % heads !== 0) {
    throw new UnsupportedModelError(
      `config.json: 'n_mamba_heads' (${heads}) must divide 'mamba_expand' times 'hidden_size' (${inner}).`,
      'Check that the configuration belongs to this model.',
    );
  }
  config.refuse('mamba_headdim', [inner / heads]);
  return {
    kind: 'mamba2',
    heads,
    headDim: inner / heads,
    groups,
    stateSize: config.size('mamba_d_state', 64),
    convWidth: config.size('mamba_d_conv', 4),
    convBias: true,
    projectionBias: config.boolean('add_bias_linear', false),
    gate: 'gateFirst',
    normGroups: groups,
    normEps: GATE_NORM_EPS,
    dtLimits: [0, Infinity],
  };
}

function readSharedBlock(config: ConfigReader, hiddenSize: number, norm: NormSpec): SharedBlockSpec {
  // It rescales RoPE in some versions of the library and not in others.
  config.refuse('use_long_context', [false]);
  const heads = config.size('num_attention_heads');
  const headDim = Math.floor((2 * hiddenSize) / heads);
  config.refuse('attention_head_dim', [headDim]);
  const contextLength = config.optionalSize('max_position_embeddings');
  return {
    attention: {
      kind: 'attention',
      heads,
      kvHeads: config.size('num_key_value_heads', heads),
      headDim,
      ...(config.boolean('use_mem_rope', false) && { rotary: readRotary(config, headDim, { contextLength }) }),
      qkvBias: false,
      outputBias: false,
      scale: (headDim / 2) ** -0.5,
    },
    attentionNorm: norm,
    mlp: {
      kind: 'mlp',
      intermediateSize: config.size('intermediate_size', 4 * hiddenSize),
      activation: readActivation(config, 'hidden_act', 'gelu'),
      gated: true,
      bias: config.boolean('add_bias_linear', false),
    },
    mlpNorm: norm,
    adapterRank: config.size('adapter_rank', 128),
    attentionAdapters: config.boolean('use_shared_attention_adapter', false),
  };
}

function blockNames(prefix: string): SharedBlockNames {
  return {
    attentionNorm: `${prefix}.input_layernorm`,
    attention: attentionNames(`${prefix}.self_attn`),
    mlpNorm: `${prefix}.pre_ff_layernorm`,
    gateUp: `${prefix}.feed_forward.gate_up_proj`,
    down: `${prefix}.feed_forward.down_proj`,
  };
}

/** @param use index among all uses of all blocks: the place of its adapters in the lists of the block */
function useNames(prefix: string, use: number, projection: string, block: SharedBlockSpec): SharedUseNames {
  const adapter = (list: string): AdapterNames => ({
    down: `${prefix}.${list}_adapter_list.${use}.0`,
    up: `${prefix}.${list}_adapter_list.${use}.1`,
  });
  return {
    mlp: adapter('feed_forward.gate_up_proj'),
    ...(block.attentionAdapters && {
      attention: {
        query: adapter('self_attn.linear_q'),
        key: adapter('self_attn.linear_k'),
        value: adapter('self_attn.linear_v'),
      },
    }),
    projection,
  };
}

/** From `layers_block_type` (old and new words), or from `hybrid_layer_ids` alone. */
function layerKinds(config: ConfigReader): readonly LayerKind[] {
  const kinds = readLayerKinds(config, 'layers_block_type', WORDS);
  if (kinds !== undefined) return kinds;
  const hybrids = config.numbers('hybrid_layer_ids');
  if (hybrids === undefined) {
    throw new UnsupportedModelError(
      "config.json: neither 'layers_block_type' nor 'hybrid_layer_ids' says which layers use a Transformer block.",
      'Take both from the original checkpoint.',
    );
  }
  return Array.from({ length: config.size('num_hidden_layers') }, (_, index): LayerKind =>
    hybrids.includes(index) ? 'hybrid' : 'mamba2',
  );
}
