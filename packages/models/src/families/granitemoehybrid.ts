import type { ConfigReader } from '../spec/config.ts';
import type { AttentionSpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import type { PartName } from '../spec/weights/tensors.ts';
import { readBambaMixer, readHybridKinds } from './bamba.ts';
import type { NamedBlock } from './decoder.ts';
import { decoderModel } from './decoder.ts';
import { mamba2Names } from './mamba2.ts';
import { attentionNames, readAttention, readGatedMlp } from './transformer.ts';

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
  const hiddenSize = config.size('hidden_size');
  const width = config.size('shared_intermediate_size', 1024);
  const activation = readGatedMlp(config).activation;
  const shared = {
    ...gateAndUp(`${layer}.shared_mlp.input_linear`, width, [2 * width, hiddenSize]),
    down: `${layer}.shared_mlp.output_linear`,
  };
  const experts = config.number('num_local_experts', 8);
  if (experts === 0) {
    const block = { kind: 'mlp', intermediateSize: width, activation, gated: true, bias: false, outputScale } as const;
    return { block, names: { kind: 'mlp', ...shared } };
  }
  const intermediateSize = config.size('intermediate_size');
  const prefix = `${layer}.block_sparse_moe`;
  const inputs = [config.size('num_local_experts', 8), 2 * intermediateSize, hiddenSize];
  const outputs = [experts, hiddenSize, intermediateSize];
  return {
    block: {
      kind: 'moe',
      experts,
      topK: config.size('num_experts_per_tok', 2),
      intermediateSize,
      activation,
      gated: true,
      scoring: 'softmax',
      order: 'topKThenSoftmax',
      normalize: false,
      correctionBias: false,
      shared: { intermediateSize: width, gate: false },
      outputScale,
    },
    names: {
      kind: 'moe',
      router: `${prefix}.router.layer`,
      expert: (index) => ({
        ...gateAndUp(`${prefix}.input_linear`, intermediateSize, inputs, index),
        down: {
          name: `${prefix}.output_linear`,
          shape: outputs,
          ranges: [{ first: index * hiddenSize, count: hiddenSize }],
        },
      }),
      shared,
    },
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
