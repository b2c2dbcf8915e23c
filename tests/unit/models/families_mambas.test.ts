// Longer than most: eight families.
import { UnsupportedModelError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import { layerPattern } from '../../../packages/models/src/spec/block_kinds.ts';
import type { BlockSpec, ModelSpec } from '../../../packages/models/src/spec/model_spec.ts';
import type { SourceTensor } from '../../../packages/models/src/spec/weight_spec.ts';
import { parameterCount, weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import type { Config } from './configs.ts';
import { MAMBA2, NEMOTRON_H, without } from './configs.ts';
import {
  BAMBA,
  FALCON_H1,
  FALCON_MAMBA,
  GRANITE,
  GRANITE_EXPERTS,
  JAMBA,
  MAMBA,
  MAMBA2_SSM,
  NEMOTRON_3,
} from './mamba_configs.ts';

const specOf = (config: Config): ModelSpec => parseConfig(config).spec;
const blocks = (config: Config): BlockSpec[] => specOf(config).layers.flatMap((layer) => layer.blocks);
const blockOf = (config: Config, kind: BlockSpec['kind']): BlockSpec | undefined =>
  blocks(config).find((block) => block.kind === kind);
const sourcesOf = (config: Config, weight: string): readonly SourceTensor[] | undefined =>
  weightsOf(parseConfig(config)).find(({ name }) => name === weight)?.sources;

it.each<[string, Config, number]>([
  ['Mamba 130M', MAMBA, 129_135_360],
  ['Falcon-Mamba 7B', FALCON_MAMBA, 7_272_665_088],
  ['Mamba-2 130M', MAMBA2_SSM, 128_989_632],
  ['Jamba v0.1', JAMBA, 51_570_323_328],
  ['Bamba 9B', BAMBA, 9_778_138_240],
  ['Granite 4.0 H 350M', GRANITE, 340_332_224],
  ['Granite 4.0 H Tiny', GRANITE_EXPERTS, 6_939_037_248],
  ['Falcon-H1 0.5B', FALCON_H1, 521_411_104],
  // It does not count the corrections, 128 a layer of experts.
  ['Nemotron 3 Nano 30B-A3B', NEMOTRON_3, 31_577_937_344 + 23 * 128],
])('%s has the parameters that transformers counts', (_name, config, count) => {
  expect(parameterCount(parseConfig(config))).toBe(count);
});

describe('mamba', () => {
  it('is Mamba alone, with a tied head and no bound of the context', () => {
    const spec = specOf(MAMBA);
    expect(layerPattern(spec)).toBe('m'.repeat(24));
    expect(spec).toMatchObject({ family: 'mamba', tiedEmbeddings: true, eosTokens: [0] });
    expect(spec.contextLength).toBeUndefined();
    expect(blocks(MAMBA)[0]).toEqual({
      kind: 'mamba',
      innerSize: 1536,
      stateSize: 16,
      dtRank: 48,
      convWidth: 4,
      convBias: true,
      projectionBias: false,
    });
  });

  it('takes a sixteenth of the width for a rank that is not said', () => {
    for (const rank of ['auto', undefined, null])
      expect(blocks({ ...MAMBA, hidden_size: 776, time_step_rank: rank })[0]).toMatchObject({ dtRank: 49 });
  });

  it('reads switches', () => {
    const fields = { use_bias: true, use_conv_bias: false, tie_word_embeddings: false };
    expect(blocks({ ...MAMBA, ...fields })[0]).toMatchObject({ projectionBias: true, convBias: false });
    expect(specOf({ ...MAMBA, ...fields }).tiedEmbeddings).toBe(false);
  });

  it('normalises dt, B and C without weights in Falcon-Mamba', () => {
    const [block] = blocks(MAMBA);
    const falcon = { ...FALCON_MAMBA, hidden_size: 768, time_step_rank: 48 };
    expect(blocks(falcon)[0]).toEqual({ ...block, innerNorm: { eps: 1e-6, weights: false } });
    expect(weightsOf(parseConfig(falcon)).some(({ name }) => /\.(dt|b|c)Norm$/.test(name))).toBe(false);
  });
});

describe('mamba_ssm', () => {
  const MAMBA_SSM = { ...MAMBA2_SSM, vocab_size: 50280, ssm_cfg: {}, pad_vocab_size_multiple: 8 };
  const mixer = (fields: Config): BlockSpec | undefined =>
    blocks({ ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba2', ...fields } })[0];

  it('is Mamba where the configuration names no layer, and then the same as in transformers', () => {
    expect({ ...specOf(MAMBA_SSM), eosTokens: [0] }).toEqual(specOf(MAMBA));
    expect({ ...specOf({ ...MAMBA_SSM, ssm_cfg: null }), eosTokens: [0] }).toEqual(specOf(MAMBA));
  });

  it('is Mamba-2 with the numbers of the package, and a padded vocabulary', () => {
    const spec = specOf(MAMBA2_SSM);
    expect(spec).toMatchObject({ family: 'mamba2', vocabSize: 50288, hiddenSize: 768, tiedEmbeddings: true });
    expect(spec.layers).toHaveLength(24);
    expect(mixer({})).toEqual({
      kind: 'mamba2',
      heads: 24,
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
  });

  it('has a gated norm for each group, where transformers has one for all', () => {
    expect(mixer({ ngroups: 8 })).toMatchObject({ groups: 8, normGroups: 8 });
    expect(blocks(MAMBA2)[0]).toMatchObject({ groups: 2, normGroups: 1 });
  });

  it('reads the order of gate and norm, and no norm', () => {
    expect(mixer({ norm_before_gate: true })).toMatchObject({ gate: 'normFirst' });
    expect(mixer({ rmsnorm: false, norm_before_gate: true })).toMatchObject({ gate: 'gateOnly' });
    const names = weightsOf(parseConfig({ ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba2', rmsnorm: false } }));
    expect(names.some(({ name }) => name.endsWith('gateNorm'))).toBe(false);
  });

  it('reads the rest of the mixer', () => {
    const fields = { d_state: 64, d_conv: 3, expand: 1, headdim: 32, bias: true, conv_bias: false, dt_limit: [0.1, 2] };
    expect(mixer(fields)).toMatchObject({
      heads: 24,
      headDim: 32,
      stateSize: 64,
      convWidth: 3,
      projectionBias: true,
      convBias: false,
      dtLimits: [0.1, 2],
    });
    expect(blocks({ ...MAMBA_SSM, ssm_cfg: { d_state: 8, dt_rank: 3, expand: 1, bias: true } })[0]).toMatchObject({
      innerSize: 768,
      stateSize: 8,
      dtRank: 3,
      projectionBias: true,
    });
  });

  it('has LayerNorm without rms_norm', () => {
    expect(specOf({ ...MAMBA_SSM, rms_norm: false }).finalNorm).toEqual({ kind: 'layer', eps: 1e-5, weightOffset: 0 });
  });
});

describe('jamba', () => {
  it('counts layers of attention and of experts', () => {
    expect(layerPattern(specOf(JAMBA))).toBe('m-mEm-mE*-mEm-mE'.repeat(4));
    expect(layerPattern(specOf({ ...JAMBA, num_experts: 1 }))).toBe('m-m-m-m-*-m-m-m-'.repeat(4));
  });

  it('has norms with weights in Mamba, no positions, and weights of experts as softmax gives them', () => {
    expect(blockOf(JAMBA, 'mamba')).toMatchObject({ dtRank: 256, innerNorm: { eps: 1e-6, weights: true } });
    expect(blockOf(JAMBA, 'attention')).toEqual({
      kind: 'attention',
      heads: 32,
      kvHeads: 8,
      headDim: 128,
      qkvBias: false,
      outputBias: false,
    });
    expect(blockOf(JAMBA, 'moe')).toMatchObject({
      experts: 16,
      topK: 2,
      intermediateSize: 14336,
      activation: 'silu',
      gated: true,
      scoring: 'softmax',
      order: 'scoreThenTopK',
      normalize: false,
    });
    expect(specOf(JAMBA).contextLength).toBe(262144);
  });
});

describe('bamba', () => {
  it('has attention where the indices say, with half of each head turning', () => {
    expect(layerPattern(specOf(BAMBA))).toBe(
      `${'M-'.repeat(9)}*-${'M-'.repeat(8)}*-${'M-'.repeat(8)}*-${'M-'.repeat(4)}`,
    );
    expect(blockOf(BAMBA, 'attention')).toMatchObject({ headDim: 128, rotary: { dim: 64, theta: 10000 } });
  });

  const kinds = (words: readonly [string, string]): Config => ({
    ...BAMBA,
    attn_layer_indices: null,
    layer_types: Array.from({ length: 32 }, (_, index) => words[[9, 18, 27].includes(index) ? 1 : 0]),
  });

  it.each<[string, Config]>([
    ['older words', kinds(['mamba', 'attention'])],
    ['newer words', kinds(['linear_attention', 'full_attention'])],
    ['heads whose size follows', { ...BAMBA, mamba_d_head: 'auto' }],
    ['no size of heads', without(BAMBA, 'mamba_d_head')],
    ['positions as newer configurations hold them', { ...BAMBA, rope_parameters: { rope_theta: 10000 } }],
  ])('reads %s', (_name, config) => {
    expect(specOf(config)).toEqual(specOf(BAMBA));
  });

  it('without any list is Mamba-2 alone, without a bound of the context', () => {
    const spec = specOf(without(BAMBA, 'attn_layer_indices'));
    expect(layerPattern(spec)).toBe('M-'.repeat(32));
    expect(spec.contextLength).toBeUndefined();
    expect(specOf(BAMBA).contextLength).toBe(262144);
  });

  it('has one gated norm over all groups, and bounds of dt', () => {
    const config = { ...BAMBA, mamba_n_groups: 8, time_step_limit: [0.01, 0.5] };
    expect(blockOf(config, 'mamba2')).toMatchObject({ groups: 8, normGroups: 1, dtLimits: [0.01, 0.5] });
  });
});

describe('granitemoehybrid', () => {
  it('has factors of embeddings, scores, logits and of what layers add', () => {
    const spec = specOf(GRANITE);
    expect(spec).toMatchObject({ embeddingScale: 12, logitScale: 1 / 3, tiedEmbeddings: true, contextLength: 32768 });
    for (const block of blocks(GRANITE)) expect(block.outputScale).toBe(0.246);
    expect(blockOf(GRANITE, 'attention')).toMatchObject({ scale: 0.015625, headDim: 64 });
  });

  it('keeps the factor of a mixer in the weights of its gated norm', () => {
    const [norm] = sourcesOf(GRANITE, 'layers.0.0.gateNorm') ?? [];
    expect(norm).toEqual({ name: 'model.layers.0.mamba.norm.weight', shape: [1536], scale: 0.246 });
    const biased = { ...GRANITE, mamba_proj_bias: true };
    expect(sourcesOf(biased, 'layers.0.0.outBias')?.[0]).toMatchObject({ scale: 0.246 });
    expect(sourcesOf(biased, 'layers.0.0.inBias')?.[0]?.scale).toBeUndefined();
  });

  it('has positions only where the configuration says rope', () => {
    const rotary = (type: unknown): unknown => {
      const block = blockOf({ ...GRANITE, position_embedding_type: type, rope_theta: 5000 }, 'attention');
      return block?.kind === 'attention' ? block.rotary : 'none';
    };
    expect(rotary('nope')).toBeUndefined();
    expect(rotary(null)).toBeUndefined();
    expect(rotary('rope')).toEqual({ dim: 64, theta: 5000 });
  });

  it('reads both spellings of layers, under either name', () => {
    const newer = (GRANITE['layer_types'] as readonly string[]).map((word) =>
      word === 'mamba' ? 'linear_attention' : 'full_attention',
    );
    expect(specOf({ ...GRANITE, layer_types: newer })).toEqual(specOf(GRANITE));
    expect(specOf({ ...without(GRANITE, 'layer_types'), layers_block_type: newer })).toEqual(specOf(GRANITE));
  });

  it('takes gate and up from one tensor, and those of each expert from one of all', () => {
    const part = (name: string, shape: readonly number[], first: number, count: number): SourceTensor => ({
      name,
      shape,
      ranges: [{ first, count }],
    });
    const shared = 'model.layers.0.shared_mlp.input_linear.weight';
    expect(sourcesOf(GRANITE, 'layers.1.0.gate')).toEqual([part(shared, [4096, 768], 0, 2048)]);
    expect(sourcesOf(GRANITE, 'layers.1.0.up')).toEqual([part(shared, [4096, 768], 2048, 2048)]);
    const both = 'model.layers.0.block_sparse_moe.input_linear.weight';
    const sources = sourcesOf(GRANITE_EXPERTS, 'layers.1.0.gateUp') ?? [];
    expect(sources).toHaveLength(128);
    expect(sources.slice(2, 4)).toEqual([
      part(both, [64, 1024, 1536], 1024, 512),
      part(both, [64, 1024, 1536], 1536, 512),
    ]);
    const down = 'model.layers.0.block_sparse_moe.output_linear.weight';
    expect(sourcesOf(GRANITE_EXPERTS, 'layers.1.0.down')?.[63]).toEqual(part(down, [64, 1536, 512], 63 * 1536, 1536));
  });

  it('weighs experts by softmax over the chosen ones, beside a layer of every token', () => {
    expect(blockOf(GRANITE_EXPERTS, 'moe')).toMatchObject({
      experts: 64,
      topK: 6,
      intermediateSize: 512,
      order: 'topKThenSoftmax',
      shared: { intermediateSize: 1024, gate: false },
      outputScale: 0.246,
    });
    expect(blockOf(GRANITE_EXPERTS, 'mlp')).toBeUndefined();
  });
});

describe('falcon_h1', () => {
  it('is Mamba-2 and attention side by side, then a feed-forward layer', () => {
    const spec = specOf(FALCON_H1);
    expect(layerPattern(spec)).toBe('(M*)-'.repeat(36));
    for (const { norms } of spec.layers) expect(norms).toHaveLength(1);
    expect(spec).toMatchObject({ embeddingScale: 5.65685, logitScale: 0.0390625, contextLength: 16384 });
  });

  it('takes the width of the mixer from its own field, and without a norm only gates', () => {
    expect(blockOf(FALCON_H1, 'mamba2')).toMatchObject({
      heads: 24,
      headDim: 64,
      gate: 'gateOnly',
      outputScale: 0.2357,
      projectionBias: false,
      outputBias: false,
    });
    const expanded = { ...FALCON_H1, mamba_d_ssm: null, mamba_d_head: 'auto', mamba_n_heads: 32 };
    expect(blockOf(expanded, 'mamba2')).toMatchObject({ heads: 32, headDim: 64 });
  });

  it.each([
    [true, 'normFirst'],
    [undefined, 'normFirst'],
    [false, 'gateFirst'],
  ])('with norms of each group and mamba_norm_before_gate %s is %s', (before, gate) => {
    const fields = { mamba_rms_norm: true, mamba_norm_before_gate: before, mamba_n_groups: 2 };
    expect(blockOf({ ...FALCON_H1, ...fields }, 'mamba2')).toMatchObject({ gate, groups: 2, normGroups: 2 });
  });

  it('multiplies results by their factors and scores by that of the keys', () => {
    expect(blockOf(FALCON_H1, 'attention')).toMatchObject({
      rotary: { dim: 64, theta: 1e11 },
      scale: 0.390625 / 8,
      outputScale: 0.9375,
    });
    expect(blockOf(FALCON_H1, 'mlp')).toMatchObject({ outputScale: 0.5859375 });
  });

  const BIASED = {
    ...FALCON_H1,
    attention_in_multiplier: 0.5,
    attention_bias: true,
    mlp_bias: true,
    mamba_proj_bias: true,
    projectors_bias: true,
  };
  const factors = (weight: string): (number | undefined)[] | undefined =>
    sourcesOf(BIASED, weight)?.map(({ scale }) => scale);

  it('has in the weights what must be there, and biases without the factor of the input', () => {
    expect(factors('layers.0.0.inProjection')).toEqual([0.35, 0.25, 0.354, 0.5, 0.3535].map((part) => 1.25 * part));
    expect(factors('layers.0.0.inBias')).toEqual([0.35, 0.25, 0.354, 0.5, 0.3535]);
    expect(sourcesOf(BIASED, 'layers.0.0.inProjection')?.map(({ ranges }) => ranges)).toEqual(
      [
        [0, 1536],
        [1536, 1536],
        [3072, 128],
        [3200, 128],
        [3328, 24],
      ].map(([first, count]) => [{ first, count }]),
    );
    expect(factors('layers.0.1.qkv')).toEqual([0.5, 0.5, 0.5]);
    expect(factors('layers.0.1.qkvBias')).toEqual([1, 1, 1]);
    expect([factors('layers.1.0.gate'), factors('layers.1.0.gateBias')]).toEqual([[0.88388], [0.88388]]);
    expect(factors('layers.1.0.up')).toEqual([undefined]);
  });

  it('has biases by four switches', () => {
    const names = (fields: Config): string[] =>
      weightsOf(parseConfig({ ...FALCON_H1, ...fields }))
        .map(({ name }) => name)
        .filter((name) => /^layers\.[01]\..*Bias$/.test(name) && !/convBias|dtBias/.test(name));
    expect(names({})).toEqual([]);
    expect(names({ mamba_proj_bias: true })).toEqual(['layers.0.0.inBias']);
    expect(names({ projectors_bias: true })).toEqual(['layers.0.0.outBias']);
    expect(names({ attention_bias: true })).toEqual(['layers.0.1.qkvBias', 'layers.0.1.outputBias']);
    expect(names({ mlp_bias: true })).toEqual(['gate', 'up', 'down'].map((role) => `layers.1.0.${role}Bias`));
  });
});

describe('nemotron_h', () => {
  it('has experts under their letter and their word', () => {
    const letters = { ...NEMOTRON_3, hybrid_override_pattern: 'ME*-', num_hidden_layers: 4, intermediate_size: 64 };
    const words = { ...letters, layers_block_type: ['mamba', 'moe', 'attention', 'mlp'] };
    const newer = { ...letters, layers_block_type: ['linear_attention', 'moe', 'full_attention', 'mlp'] };
    expect(layerPattern(specOf(letters))).toBe('ME*-');
    for (const config of [words, newer]) {
      expect(specOf(without(config, 'hybrid_override_pattern'))).toEqual(specOf(letters));
    }
  });

  it('scores experts by sigmoids, with a correction for the choice', () => {
    expect(blockOf(NEMOTRON_3, 'moe')).toEqual({
      kind: 'moe',
      experts: 128,
      topK: 6,
      intermediateSize: 1856,
      activation: 'relu2',
      gated: false,
      scoring: 'sigmoid',
      order: 'scoreThenTopK',
      normalize: true,
      normalizeEps: 1e-20,
      routedScale: 2.5,
      groups: 1,
      topGroups: 1,
      correctionBias: true,
      bias: false,
      shared: { intermediateSize: 3712, gate: false },
    });
  });

  it('reads groups of experts and the width that they read', () => {
    const fields = { n_group: 8, topk_group: 4, moe_latent_size: 1024, norm_topk_prob: false };
    const config = { ...NEMOTRON_3, ...fields };
    expect(blockOf(config, 'moe')).toMatchObject({ groups: 8, topGroups: 4, latentSize: 1024, normalize: false });
    expect(sourcesOf(config, 'layers.1.0.latentDown')).toEqual([
      { name: 'backbone.layers.1.mixer.fc1_latent_proj.weight', shape: [1024, 2688] },
    ]);
    expect(sourcesOf(config, 'layers.1.0.up')?.[1]).toEqual({
      name: 'backbone.layers.1.mixer.experts.1.up_proj.weight',
      shape: [1856, 1024],
    });
  });

  it('has biases where the configuration says so', () => {
    const config = { ...NEMOTRON_H, use_bias: true, mlp_bias: true, attention_bias: true };
    expect(blocks(config)).toMatchObject([
      { projectionBias: true },
      { bias: true },
      { qkvBias: true, outputBias: true },
    ]);
  });

  it('never ties its head', () => {
    expect(specOf({ ...NEMOTRON_3, tie_word_embeddings: true }).tiedEmbeddings).toBe(false);
  });

  it('reads the names that other classes give to its fields', () => {
    const names = { n_groups: 'mamba_n_groups', conv_kernel: 'mamba_d_conv' } as const;
    const other = Object.fromEntries(Object.entries(names).map(([own, name]) => [name, NEMOTRON_H[own]]));
    expect(specOf({ ...NEMOTRON_H, n_groups: 1, conv_kernel: 2, ...other })).toEqual(specOf(NEMOTRON_H));
    expect(blocks({ ...NEMOTRON_H, mamba_conv_bias: false })[0]).toMatchObject({ convBias: false });
  });
});

describe('refuses', () => {
  /** The configuration, and what the message must name. */
  const cases: readonly [string, Config, ...string[]][] = [
    ['another activation in Mamba', { ...MAMBA, hidden_act: 'gelu' }, 'hidden_act', 'gelu'],
    ['a rank that is a word', { ...MAMBA, time_step_rank: 'small' }, 'time_step_rank', '"small"'],
    ['a rank that is a word in Jamba', { ...JAMBA, mamba_dt_rank: 'small' }, 'mamba_dt_rank'],
    ['attention in mamba_ssm', { ...MAMBA2_SSM, attn_layer_idx: [3] }, 'attn_layer_idx'],
    ['feed-forward layers in mamba_ssm', { ...MAMBA2_SSM, d_intermediate: 64 }, 'd_intermediate', '64'],
    ['another mixer', { ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba3' } }, 'ssm_cfg.layer', 'Mamba3'],
    ['channels beside the SSM', { ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba2', d_ssm: 64 } }, 'ssm_cfg.d_ssm', '1536'],
    ['skip weights of channels', { ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba2', D_has_hdim: true } }, 'D_has_hdim'],
    ['heads that do not divide', { ...MAMBA2_SSM, ssm_cfg: { layer: 'Mamba2', headdim: 60 } }, 'ssm_cfg.headdim'],
    ['quantized weights', { ...MAMBA2_SSM, quantization_config: {} }, 'quantization_config'],
    ['an offset beyond its period', { ...JAMBA, attn_layer_offset: 8 }, 'attn_layer_offset', 'attn_layer_period'],
    ['a broken offset', { ...JAMBA, expert_layer_offset: 0.5 }, 'expert_layer_offset', '0.5'],
    ['a window in Jamba', { ...JAMBA, sliding_window: 4096 }, 'sliding_window'],
    ['a window in Nemotron-H', { ...NEMOTRON_3, sliding_window: 4096 }, 'sliding_window'],
    ['attention beyond the layers', { ...BAMBA, attn_layer_indices: [40] }, 'attn_layer_indices', '40', '32'],
    ['unknown words', { ...GRANITE, layer_types: Array.from({ length: 32 }, () => 'conv') }, 'layer_types', "'conv'"],
    ['too few words', { ...GRANITE, layer_types: ['mamba'] }, 'layer_types', 'num_hidden_layers'],
    ['heads beside the inner width', { ...BAMBA, mamba_d_head: 32 }, 'mamba_n_heads', 'mamba_d_head', '8192'],
    ['heads beside the width of the mixer', { ...FALCON_H1, mamba_d_ssm: 1024 }, 'mamba_d_head', '1024'],
    ['another activation in a mixer', { ...FALCON_H1, hidden_act: 'gelu' }, 'hidden_act'],
    ['groups that do not divide', { ...BAMBA, mamba_n_groups: 3 }, '3', '128'],
    ['other positions', { ...GRANITE, position_embedding_type: 'alibi' }, 'position_embedding_type', 'alibi'],
    ['a negative number of experts', { ...GRANITE, num_local_experts: -1 }, 'num_local_experts'],
    ['too few factors', { ...FALCON_H1, ssm_multipliers: [1, 1] }, 'ssm_multipliers', '5', '2'],
    ['factors that are none', { ...FALCON_H1, mlp_multipliers: ['1', '1'] }, 'mlp_multipliers'],
    ['experts without their number', without(NEMOTRON_3, 'n_routed_experts'), 'n_routed_experts'],
  ];

  it.each(cases)('%s', (_name, config, ...words) => {
    let error: unknown;
    try {
      parseConfig(config);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(UnsupportedModelError);
    if (!(error instanceof UnsupportedModelError)) return;
    for (const word of words) expect(error.message).toContain(word);
    expect(error.hint).not.toBe('');
  });
});
