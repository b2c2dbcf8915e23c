// Longer than most: five families.
import { UnsupportedModelError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import { stateTensors } from '../../../packages/models/src/graph/names.ts';
import { layerPattern } from '../../../packages/models/src/spec/block_kinds.ts';
import type { BlockSpec, ModelSpec } from '../../../packages/models/src/spec/model_spec.ts';
import type { SourceTensor } from '../../../packages/models/src/spec/weight_spec.ts';
import { parameterCount, weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import { readFixture } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';
import { without } from './configs.ts';
import { LFM2, OLMO_HYBRID, QWEN3_5, QWEN3_NEXT, ZAMBA2 } from './hybrid_configs.ts';

const specOf = (config: Config): ModelSpec => parseConfig(config).spec;
const blocks = (config: Config): BlockSpec[] => specOf(config).layers.flatMap((layer) => layer.blocks);
const WORDS: Readonly<Record<string, string>> = { shortConv: 'conv', attention: 'full_attention' };
const kinds = (config: Config): string[] => blocks(config).map(({ kind }) => kind);
it.each<[string, Config, number]>([
  ['LFM2-350M', LFM2, 354_483_968],
  ['Olmo-Hybrid-7B', OLMO_HYBRID, 7_430_870_688],
  ['Qwen3-Next-80B-A3B', QWEN3_NEXT, 79_674_391_296],
  ['the text part of Qwen3.5-0.8B', QWEN3_5, 752_393_024],
  ['Zamba2-1.2B', ZAMBA2, 1_215_064_704],
])('%s has the parameters that transformers counts', (_name, config, count) => {
  expect(parameterCount(parseConfig(config))).toBe(count);
});

describe('LFM2', () => {
  it('is convolutions and attention with a feed-forward layer each', () => {
    expect(layerPattern(specOf(LFM2))).toBe('C-C-*-C-C-*-C-C-*-C-*-C-*-C-*-C-');
    expect(specOf(LFM2)).toMatchObject({
      tiedEmbeddings: true,
      contextLength: 128_000,
      finalNorm: { kind: 'rms', eps: 1e-5, weightOffset: 0 },
      eosTokens: [7],
    });
    expect(blocks(LFM2)[0]).toEqual({ kind: 'shortConv', convWidth: 3, bias: false });
    expect(blocks(LFM2)[4]).toEqual({
      kind: 'attention',
      heads: 16,
      kvHeads: 8,
      headDim: 64,
      rotary: { dim: 64, theta: 1e6 },
      qkvBias: false,
      outputBias: false,
      qkNorm: { eps: 1e-5, weightOffset: 0, over: 'head' },
    });
  });

  it.each<[string, Config]>([
    ['a list of words', { layer_types: kinds(LFM2).flatMap((kind) => (kind === 'mlp' ? [] : [WORDS[kind]])) }],
    ['other names of older fields', { block_ff_dim: null, intermediate_size: 6656, tie_word_embeddings: true }],
  ])('reads %s', (_name, fields) => {
    expect(specOf({ ...LFM2, ...fields })).toEqual(specOf(LFM2));
  });

  it('without any list is attention in every layer, and without attention has no bound of the context', () => {
    expect(kinds({ ...LFM2, full_attn_idxs: null, num_hidden_layers: 2 })).toEqual([
      'attention',
      'mlp',
      'attention',
      'mlp',
    ]);
    expect(specOf({ ...LFM2, full_attn_idxs: [] }).contextLength).toBeUndefined();
  });

  it.each<[Config, number]>([
    // 2/3 of 6656 is 4437.3.
    [{}, 4608],
    [{ block_multiple_of: 1 }, 4437],
    [{ block_ffn_dim_multiplier: 1.3, block_multiple_of: 1 }, 5768],
    [{ block_ffn_dim_multiplier: null }, 4437],
    [{ block_auto_adjust_ff_dim: false }, 6656],
    [{ block_ff_dim: 384 }, 256],
    [{ block_ff_dim: 385 }, 256],
    [{ block_ff_dim: 386 }, 512],
  ])('makes the width of a gated layer of that of an ungated one: %o', (fields, width) => {
    expect(blocks({ ...LFM2, ...fields })[1]).toMatchObject({ intermediateSize: width });
  });
});

describe('OLMo-Hybrid', () => {
  it('has norms in front of delta nets, and behind attention and the layer after it', () => {
    const { layers } = specOf(OLMO_HYBRID);
    expect(layerPattern(specOf(OLMO_HYBRID))).toBe('G-G-G-*-'.repeat(8));
    const norm = { kind: 'rms', eps: 1e-6, weightOffset: 0 };
    expect(layers[0]).toEqual({
      norms: [norm],
      blocks: [
        {
          kind: 'gatedDelta',
          keyHeads: 30,
          valueHeads: 30,
          keyDim: 96,
          valueDim: 192,
          convWidth: 4,
          convBias: false,
          betaFactor: 2,
          normEps: 1e-5,
          gateActivation: 'silu',
        },
      ],
    });
    expect(layers[6]).toEqual({
      norms: [],
      blocks: [
        {
          kind: 'attention',
          heads: 30,
          kvHeads: 30,
          headDim: 128,
          qkvBias: false,
          outputBias: false,
          qkNorm: { eps: 1e-6, weightOffset: 0, over: 'projection' },
        },
      ],
      postNorm: norm,
    });
    expect(layers[7]).toMatchObject({ norms: [], postNorm: norm });
  });

  it.each<[string, Config, unknown]>([
    ['null among the parameters', { rope_parameters: { rope_theta: null } }, undefined],
    ['null', { rope_parameters: null, rope_theta: null }, undefined],
    ['a number', { rope_parameters: null, rope_theta: 5e5 }, { dim: 128, theta: 5e5 }],
    ['a number among the parameters', { rope_parameters: { rope_theta: 5e5 } }, { dim: 128, theta: 5e5 }],
    ['absent', { rope_parameters: null }, { dim: 128, theta: 1e4 }],
  ])('takes rope_theta as it is: %s', (_name, fields, rotary) => {
    expect(blocks({ ...OLMO_HYBRID, ...fields })[6]).toEqual(
      expect.objectContaining(rotary === undefined ? { kind: 'attention' } : { rotary }),
    );
    expect('rotary' in (blocks({ ...OLMO_HYBRID, ...fields })[6] ?? {})).toBe(rotary !== undefined);
  });

  it('reads heads, betas and biases', () => {
    const fields = {
      linear_num_key_heads: 2,
      linear_num_value_heads: 4,
      linear_key_head_dim: 8,
      linear_value_head_dim: 12,
    };
    const [delta] = blocks({ ...OLMO_HYBRID, ...fields, linear_allow_neg_eigval: false });
    expect(delta).toMatchObject({ keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 12, betaFactor: 1 });
    expect(blocks({ ...OLMO_HYBRID, attention_bias: true })[6]).toMatchObject({ qkvBias: true, outputBias: true });
  });

  it('has attention in few layers, too', () => {
    const two = { ...OLMO_HYBRID, num_hidden_layers: 2 };
    expect(layerPattern(specOf(two))).toBe('G-*-');
    expect(layerPattern(specOf({ ...two, layer_types: ['full_attention', 'linear_attention'] }))).toBe('*-G-');
  });
});

describe('Qwen3-Next', () => {
  it('is three delta nets and gated attention in turn, with experts everywhere', () => {
    expect(layerPattern(specOf(QWEN3_NEXT))).toBe('GEGEGE*E'.repeat(12));
    const norm = { kind: 'rms', eps: 1e-6, weightOffset: 1 };
    expect(specOf(QWEN3_NEXT)).toMatchObject({
      tiedEmbeddings: false,
      finalNorm: norm,
    });
    expect(specOf(QWEN3_NEXT).layers.every(({ norms }) => norms[0]?.weightOffset === 1)).toBe(true);
    expect(blocks(QWEN3_NEXT)[0]).toMatchObject({ keyHeads: 16, valueHeads: 32, betaFactor: 1, normEps: 1e-6 });
    expect(blocks(QWEN3_NEXT)[1]).toEqual({
      kind: 'moe',
      experts: 512,
      topK: 10,
      intermediateSize: 512,
      activation: 'silu',
      gated: true,
      scoring: 'softmax',
      order: 'scoreThenTopK',
      normalize: true,
      correctionBias: false,
      shared: { intermediateSize: 512, gate: true },
    });
    expect(blocks(QWEN3_NEXT)[6]).toEqual({
      kind: 'attention',
      heads: 16,
      kvHeads: 2,
      headDim: 256,
      rotary: { dim: 64, theta: 1e4 },
      qkvBias: false,
      outputBias: false,
      qkNorm: { eps: 1e-6, weightOffset: 1, over: 'head' },
      outputGate: true,
    });
  });

  it.each<[Config, string]>([
    [{ full_attention_interval: 2 }, 'GE*EGE*E'],
    [{ layer_types: ['full_attention', 'linear_attention', 'linear_attention', 'full_attention'] }, '*EGEGE*E'],
    [{ decoder_sparse_step: 2 }, 'G-GEG-*E'],
    [{ mlp_only_layers: [0, 3] }, 'G-GEGE*-'],
    [{ decoder_sparse_step: 2, mlp_only_layers: [1] }, 'G-G-G-*E'],
    [{ num_experts: 0 }, 'G-G-G-*-'],
  ])('chooses layers by %o', (fields, pattern) => {
    expect(layerPattern(specOf({ ...QWEN3_NEXT, num_hidden_layers: 4, ...fields }))).toBe(pattern);
  });

  it('may leave the weights of experts as they are', () => {
    expect(blocks({ ...QWEN3_NEXT, norm_topk_prob: false })[1]).toMatchObject({ normalize: false });
  });

  it('sorts the rows of projections that are stored by head', () => {
    const weights = weightsOf(parseConfig(readFixture<Config>('models/qwen3_next/config.json')));
    const sources = (name: string): readonly SourceTensor[] =>
      weights.find((weight) => weight.name === name)?.sources ?? [];
    // Two key heads of 16 rows of q, 16 of k, and 32 of v and of z for their two value heads.
    expect(sources('layers.0.0.inProjection').map(({ ranges }) => ranges)).toEqual([
      [
        { first: 0, count: 16 },
        { first: 96, count: 16 },
      ],
      [
        { first: 16, count: 16 },
        { first: 112, count: 16 },
      ],
      [
        { first: 32, count: 32 },
        { first: 128, count: 32 },
      ],
      [
        { first: 64, count: 32 },
        { first: 160, count: 32 },
      ],
      [
        { first: 0, count: 2 },
        { first: 4, count: 2 },
      ],
      [
        { first: 2, count: 2 },
        { first: 6, count: 2 },
      ],
    ]);
    // Heads of 16 rows, each followed by 16 rows of its gate.
    const [query, gate] = sources('layers.6.0.qkv');
    expect(query?.ranges?.map(({ first }) => first)).toEqual([0, 32, 64, 96]);
    expect(gate?.ranges?.map(({ first }) => first)).toEqual([16, 48, 80, 112]);
  });
});

describe('Qwen3.5', () => {
  const nested = (config: Config, outer: Config = {}): Config => ({
    model_type: String(config['model_type']).replace('_text', ''),
    text_config: config,
    vision_config: { depth: 12 },
    ...outer,
  });

  it('is Qwen3-Next with feed-forward layers', () => {
    expect(layerPattern(specOf(QWEN3_5))).toBe('G-G-G-*-'.repeat(6));
    expect(blocks(QWEN3_5)[1]).toMatchObject({ kind: 'mlp', intermediateSize: 3584, activation: 'silu', gated: true });
    expect(specOf(QWEN3_5)).toMatchObject({ family: 'qwen3_5_text', tiedEmbeddings: true });
  });

  it('with experts has them in every layer, their weights always divided by their sum', () => {
    const experts = { ...QWEN3_NEXT, model_type: 'qwen3_5_moe_text', norm_topk_prob: false };
    expect(layerPattern(specOf(experts))).toBe('GEGEGE*E'.repeat(12));
    expect(blocks(experts)[1]).toEqual(blocks(QWEN3_NEXT)[1]);
  });

  it('may stand in the configuration of a model that also sees, which says whether the head is tied', () => {
    expect(specOf(nested(QWEN3_5))).toEqual({ ...specOf(QWEN3_5), family: 'qwen3_5' });
    expect(specOf(nested(QWEN3_5, { tie_word_embeddings: false })).tiedEmbeddings).toBe(false);
    expect(
      specOf(nested({ ...QWEN3_5, tie_word_embeddings: false }, { tie_word_embeddings: true })).tiedEmbeddings,
    ).toBe(true);
  });

  it('turns a quarter of each head as text alone needs it', () => {
    const rope = { rope_theta: 1e7, mrope_section: [11, 11, 10], mrope_interleaved: true };
    expect(blocks({ ...QWEN3_5, rope_parameters: rope })[6]).toMatchObject({ rotary: { dim: 64, theta: 1e7 } });
    expect(blocks({ ...QWEN3_5, partial_rotary_factor: 0.5 })[6]).toMatchObject({ rotary: { dim: 128 } });
  });
});

describe('Zamba2', () => {
  it('adds the blocks that layers share to what the norm of Mamba-2 reads', () => {
    const spec = specOf(ZAMBA2);
    expect(layerPattern(spec)).toBe(`${'MMMMM[*-]M'.repeat(6)}MM`);
    expect(spec).toMatchObject({ tiedEmbeddings: true, contextLength: 4096 });
    expect(spec.layers[5]?.blocks[0]).toEqual({
      kind: 'mamba2',
      heads: 64,
      headDim: 64,
      groups: 1,
      stateSize: 128,
      convWidth: 4,
      convBias: true,
      projectionBias: false,
      gate: 'gateFirst',
      normGroups: 1,
      normEps: 1e-5,
      dtLimits: [0, Infinity],
    });
    const norm = { kind: 'rms', eps: 1e-5, weightOffset: 0 };
    expect(spec.sharedBlocks).toEqual([
      {
        attention: {
          kind: 'attention',
          heads: 32,
          kvHeads: 32,
          headDim: 128,
          rotary: { dim: 128, theta: 1e4 },
          qkvBias: false,
          outputBias: false,
          scale: 1 / 8,
        },
        attentionNorm: norm,
        mlp: { kind: 'mlp', intermediateSize: 8192, activation: 'gelu', gated: true, bias: false },
        mlpNorm: norm,
        adapterRank: 128,
        attentionAdapters: true,
      },
    ]);
  });

  const words = (hybrid: string, mamba: string): string[] =>
    Array.from({ length: 38 }, (_, index) => (index % 6 === 5 ? hybrid : mamba));

  it.each(['mamba', 'linear_attention'])('reads the word %s', (mamba) => {
    const config = { ...without(ZAMBA2, 'hybrid_layer_ids'), layers_block_type: words('hybrid', mamba) };
    expect(specOf(config)).toEqual(specOf(ZAMBA2));
  });

  it('uses several blocks in turn, each with adapters and a cache for every use', () => {
    const config = { ...ZAMBA2, num_mem_blocks: 2 };
    const { layers, sharedBlocks } = specOf(config);
    expect(sharedBlocks).toHaveLength(2);
    expect([5, 11, 17, 23].map((layer) => layers[layer]?.sharedBlock)).toEqual([0, 1, 0, 1]);
    const { names } = parseConfig(config);
    expect(names.sharedBlocks?.map(({ attentionNorm }) => attentionNorm)).toEqual([
      'model.layers.5.shared_transformer.input_layernorm',
      'model.layers.11.shared_transformer.input_layernorm',
    ]);
    // The third use is one of the first block, under its own number.
    expect(names.layers[17]?.sharedUse).toMatchObject({
      mlp: { down: 'model.layers.5.shared_transformer.feed_forward.gate_up_proj_adapter_list.2.0' },
      attention: { value: { up: 'model.layers.5.shared_transformer.self_attn.linear_v_adapter_list.2.1' } },
      projection: 'model.layers.17.linear',
    });
    const caches = stateTensors(specOf(config), 1, 64, 'f16').filter(({ kind }) => kind === 'cache');
    expect(caches.map(({ name }) => name).slice(0, 4)).toEqual([
      'layers.5.shared.keys',
      'layers.5.shared.values',
      'layers.11.shared.keys',
      'layers.11.shared.values',
    ]);
  });

  it('has no more blocks than uses, and without any no bound of the context', () => {
    expect(specOf({ ...ZAMBA2, num_mem_blocks: 9 }).sharedBlocks).toHaveLength(6);
    const plain = specOf({ ...ZAMBA2, hybrid_layer_ids: [] });
    expect([plain.sharedBlocks, plain.contextLength]).toEqual([undefined, undefined]);
  });

  it('reads groups, biases and whether positions count', () => {
    const spec = specOf({ ...ZAMBA2, mamba_ngroups: 2, add_bias_linear: true, use_mem_rope: false });
    expect(spec.layers[0]?.blocks[0]).toMatchObject({ groups: 2, normGroups: 2, projectionBias: true, convBias: true });
    expect(spec.sharedBlocks?.[0]).toMatchObject({ mlp: { bias: true }, attention: { outputBias: false } });
    expect(spec.sharedBlocks?.[0]?.attention.rotary).toBeUndefined();
  });
});

describe('refuses', () => {
  it.each<[string, Config, ...string[]]>([
    ['another word of LFM2', { ...LFM2, num_hidden_layers: 1, layer_types: ['mamba'] }, 'layer_types', "'mamba'"],
    ['no width of LFM2', without(LFM2, 'block_ff_dim'), 'block_ff_dim'],
    ['another activation of OLMo-Hybrid', { ...OLMO_HYBRID, hidden_act: 'gelu' }, 'hidden_act', 'gelu'],
    ['a delta net without its gate', { ...OLMO_HYBRID, linear_use_gate: false }, 'linear_use_gate'],
    ['another activation of Qwen3-Next', { ...QWEN3_NEXT, hidden_act: 'relu' }, 'hidden_act', 'relu'],
    ['attention without its gate', { ...QWEN3_NEXT, attn_output_gate: false }, 'attn_output_gate'],
    ['key heads that do not divide', { ...QWEN3_NEXT, linear_num_key_heads: 12 }, 'linear_num_key_heads', '12', '32'],
    ['no number of experts', without(QWEN3_NEXT, 'num_experts'), 'num_experts'],
    ['a model of experts without any', { ...QWEN3_NEXT, model_type: 'qwen3_5_moe', num_experts: 0 }, 'num_experts'],
    ['another gate of the delta nets', { ...QWEN3_5, output_gate_type: 'sigmoid' }, 'output_gate_type', 'sigmoid'],
    [
      'a quantized part',
      { model_type: 'qwen3_5', text_config: { ...QWEN3_5, quantization_config: { bits: 4 } } },
      'text_config.quantization_config',
    ],
    [
      'a missing field of a part',
      { model_type: 'qwen3_5', text_config: without(QWEN3_5, 'hidden_size') },
      'text_config.hidden_size',
    ],
    ['a longer context of Zamba2', { ...ZAMBA2, use_long_context: true }, 'use_long_context'],
    ['heads of another width', { ...ZAMBA2, attention_head_dim: 64 }, 'attention_head_dim', '64'],
    ['Mamba heads of another width', { ...ZAMBA2, mamba_headdim: 32 }, 'mamba_headdim', '32'],
    ['Mamba heads that do not divide', { ...ZAMBA2, n_mamba_heads: 60 }, 'n_mamba_heads', '60', '4096'],
    ['key heads of a shared block', { ...ZAMBA2, num_key_value_heads: 5 }, 'num_key_value_heads', '5'],
    ['no layers that use a block', without(ZAMBA2, 'hybrid_layer_ids'), 'layers_block_type', 'hybrid_layer_ids'],
  ])('%s', (_name, config, ...words) => {
    let error: unknown;
    try {
      parseConfig(config);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(UnsupportedModelError);
    for (const word of words) expect(String(error)).toContain(word);
  });
});
