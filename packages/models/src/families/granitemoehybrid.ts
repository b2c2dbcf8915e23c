import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { AttentionSpec, MoeSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { MoeNames } from '../spec/weights/moe.ts';
import type { PartName } from '../spec/weights/tensors.ts';
import { readBambaMixer, readHybridKinds } from './bamba.ts';
import type { NamedBlock } from './decoder.ts';
import { decoderModel } from './decoder.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, readAttention } from './transformer.ts';

/**
 * Granite 4: Mamba-2 or attention, then a feed-forward layer of every token and, with `num_local_experts` above 0, experts
 * beside it, weighed by softmax over the chosen ones. Attention has positions only where `position_embedding_type` is
 * 'rope'. The gated norm spans all channels. Factors of embeddings, scores, logits and of all that is added to the stream
 * stand in the configuration.
 */
export function parseGraniteMoeHybrid(config: ConfigReader): ParsedModel {
  const kinds = readHybridKinds(config);
  const outputScale = config.number('residual_multiplier', 1);
  const attention = { ...readGraniteAttention(config), outputScale };
  return decoderModel(config, {
    family: 'granitemoehybrid',
    norms: ['input_layernorm', 'post_attention_layernorm'],
    finalNorm: 'model.norm',
    scales: {
      embeddingScale: config.number('embedding_multiplier', 1),
      logitScale: 1 / config.number('logits_scaling', 1),
    },
    layer: (index, prefix) => ({
      mixers: [
        kinds?.[index] === 'attention'
          ? { block: attention, names: attentionNames(`${prefix}.self_attn`) }
          : { block: { ...readBambaMixer(config), outputScale }, names: mamba2Names(`${prefix}.mamba`) },
      ],
      feedForward: feedForward(config, prefix, outputScale),
    }),
  });
}

function readGraniteAttention(config: ConfigReader): AttentionSpec {
  config.refuse('position_embedding_type', ['nope', 'rope']);
  const { rotary, ...attention } = readAttention(config);
  const positions = config.raw('position_embedding_type') === 'rope' && rotary !== undefined ? { rotary } : {};
  return { ...attention, ...positions, scale: config.number('attention_multiplier', 1) };
}

function feedForward(config: ConfigReader, layer: string, outputScale: number): NamedBlock {
  const width = config.size('shared_intermediate_size', 1024);
  const activation = readActivation(config, 'hidden_act', 'silu');
  const shared = {
    ...gateAndUp(`${layer}.shared_mlp.input_linear`, width, [2 * width, config.size('hidden_size')]),
    down: `${layer}.shared_mlp.output_linear`,
  };
  if (config.raw('num_local_experts') === 0) {
    return {
      block: { kind: 'mlp', intermediateSize: width, activation, gated: true, bias: false, outputScale },
      names: { kind: 'mlp', ...shared },
    };
  }
  const moe = readExperts(config);
  return {
    block: { ...moe, shared: { intermediateSize: width, gate: false }, outputScale },
    names: { ...expertNames(`${layer}.block_sparse_moe`, moe, config.size('hidden_size')), shared },
  };
}

function readExperts(config: ConfigReader): MoeSpec {
  return {
    kind: 'moe',
    experts: config.size('num_local_experts', 8),
    topK: config.size('num_experts_per_tok', 2),
    intermediateSize: config.size('intermediate_size'),
    activation: readActivation(config, 'hidden_act', 'silu'),
    gated: true,
    scoring: 'softmax',
    order: 'topKThenSoftmax',
    normalize: false,
    correctionBias: false,
  };
}

/** All experts are two tensors (experts, rows, width). */
function expertNames(prefix: string, { experts, intermediateSize: inner }: MoeSpec, hiddenSize: number): MoeNames {
  return {
    kind: 'moe',
    router: `${prefix}.router.layer`,
    expert: (index) => ({
      ...gateAndUp(`${prefix}.input_linear`, inner, [experts, 2 * inner, hiddenSize], index),
      down: {
        name: `${prefix}.output_linear`,
        shape: [experts, hiddenSize, inner],
        ranges: [{ first: index * hiddenSize, count: hiddenSize }],
      },
    }),
  };
}

/** Rows of the gate and, behind them, of up in the matrix number `index` of a stored tensor. */
function gateAndUp(
  name: string,
  width: number,
  shape: readonly number[],
  index: number = 0,
): { readonly gate: PartName; readonly up: PartName } {
  const part = (at: number): PartName => ({ name, shape, ranges: [{ first: (2 * index + at) * width, count: width }] });
  return { gate: part(0), up: part(1) };
}
