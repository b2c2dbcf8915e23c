// Longer than most: ten families.
import { UnsupportedModelError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { AttentionSpec, BlockSpec, MlpSpec, ModelSpec } from '../../../packages/models/src/spec/model_spec.ts';
import { parameterCount } from '../../../packages/models/src/spec/weight_spec.ts';
import type { Config } from './configs.ts';
import { LLAMA, without } from './configs.ts';
import {
  GEMMA3,
  GEMMA3_TEXT,
  GPT2,
  GRANITE3,
  MISTRAL,
  PAPER_TRANSFORMER,
  PYTHIA,
  QWEN2,
  QWEN3,
  SMOLLM3,
} from './transformer_configs.ts';

const specOf = (config: Config): ModelSpec => parseConfig(config).spec;
const blocks = (config: Config): BlockSpec[] => specOf(config).layers.flatMap((layer) => layer.blocks);
const attentions = (config: Config): AttentionSpec[] => blocks(config).filter((block) => block.kind === 'attention');
const mlps = (config: Config): MlpSpec[] => blocks(config).filter((block) => block.kind === 'mlp');
const windows = (config: Config): (number | undefined)[] => attentions(config).map(({ window }) => window);

it.each<[string, Config, number]>([
  ['Mistral 7B v0.3', MISTRAL, 7_248_023_552],
  ['Qwen2.5 0.5B', QWEN2, 494_032_768],
  ['Qwen3 0.6B', QWEN3, 596_049_920],
  ['SmolLM3 3B', SMOLLM3, 3_075_098_624],
  ['the text part of Gemma 3 4B', GEMMA3, 3_880_263_168],
  ['Granite 3.1 2B', GRANITE3, 2_533_531_648],
  ['the 8B Transformer of the paper', PAPER_TRANSFORMER, 8_540_135_424],
  ['Pythia 160M', PYTHIA, 162_322_944],
  ['GPT-2', GPT2, 124_439_808],
])('%s has the parameters that transformers counts', (_name, config, count) => {
  expect(parameterCount(parseConfig(config))).toBe(count);
});

describe('Llama', () => {
  it.each<[Config, readonly boolean[]]>([
    [{}, [false, false, false]],
    [{ attention_bias: true }, [true, true, false]],
    [{ mlp_bias: true }, [false, false, true]],
  ])('has the biases of %o', (fields, expected) => {
    const config = { ...LLAMA, ...fields };
    const biases = attentions(config).map(({ qkvBias, outputBias }, at) => [
      qkvBias,
      outputBias,
      mlps(config)[at]?.bias,
    ]);
    expect(biases).toEqual([expected, expected]);
  });
});

describe('Mistral', () => {
  it('is Llama where there is no window', () => {
    expect({ ...specOf(MISTRAL), family: 'llama' }).toEqual(specOf({ ...MISTRAL, model_type: 'llama' }));
  });

  it('has the window of the configuration in all layers, none for null, and 4096 where it says nothing', () => {
    const two = { ...MISTRAL, num_hidden_layers: 2 };
    expect(windows({ ...two, sliding_window: 8 })).toEqual([8, 8]);
    expect(windows(two)).toEqual([undefined, undefined]);
    expect(windows(without(two, 'sliding_window'))).toEqual([4096, 4096]);
  });
});

describe('Qwen2', () => {
  const four = { ...QWEN2, num_hidden_layers: 4, sliding_window: 16, max_window_layers: 3 };

  it('has biases of queries, keys and values alone', () => {
    expect(attentions(QWEN2)[0]).toMatchObject({ qkvBias: true, outputBias: false, headDim: 64 });
    expect(mlps(QWEN2)[0]).toMatchObject({ bias: false });
  });

  it.each<[string, Config, readonly (number | undefined)[]]>([
    ['none unless they are switched on', {}, [undefined, undefined, undefined, undefined]],
    ['from a layer on', { use_sliding_window: true }, [undefined, undefined, undefined, 16]],
    ['none where the number is null', { use_sliding_window: true, sliding_window: null }, Array(4).fill(undefined)],
    [
      'of a list of layers',
      {
        use_sliding_window: true,
        layer_types: ['sliding_attention', 'full_attention', 'full_attention', 'full_attention'],
      },
      [16, undefined, undefined, undefined],
    ],
  ])('has windows: %s', (_name, fields, expected) => {
    expect(windows({ ...four, ...fields })).toEqual(expected);
    expect(windows({ ...four, ...fields, model_type: 'qwen3' })).toEqual(expected);
  });
});

describe('Qwen3', () => {
  it('has norms of heads and, where asked for, all biases of attention', () => {
    expect(attentions(QWEN3)[0]).toMatchObject({
      heads: 16,
      kvHeads: 8,
      headDim: 128,
      qkNorm: { eps: 1e-6, weightOffset: 0, over: 'head' },
      qkvBias: false,
      outputBias: false,
    });
    expect(attentions({ ...QWEN3, attention_bias: true })[0]).toMatchObject({ qkvBias: true, outputBias: true });
    // The class's own size, and not that of Llama (64).
    expect(attentions(without(QWEN3, 'head_dim'))[0]).toMatchObject({ headDim: 128 });
  });
});

describe('SmolLM3', () => {
  const four = { ...SMOLLM3, num_hidden_layers: 4 };
  const turns = (config: Config): boolean[] => attentions(config).map(({ rotary }) => rotary !== undefined);

  it.each<[Config, readonly boolean[]]>([
    [{ no_rope_layers: [1, 0, 0, 1] }, [true, false, false, true]],
    // The published list is longer than some models.
    [{ no_rope_layers: [0, 1, 1, 1, 0, 1] }, [false, true, true, true]],
    [{ no_rope_layers: null, no_rope_layer_interval: 2 }, [true, false, true, false]],
    [{ no_rope_layers: null, no_rope_layer_interval: null }, [true, true, true, false]],
  ])('has positions where %o says', (fields, expected) => {
    expect(turns({ ...four, ...fields })).toEqual(expected);
    expect(attentions({ ...four, ...fields }).find(({ rotary }) => rotary)?.rotary).toEqual({ dim: 128, theta: 5e6 });
  });

  it('has windows in the layers without positions, or in those of a list, where they are switched on', () => {
    expect(windows({ ...four, sliding_window: 16 })).toEqual(Array(4).fill(undefined));
    const on = { ...four, sliding_window: 16, use_sliding_window: true };
    expect(windows(on)).toEqual([undefined, undefined, undefined, 16]);
    const listed = ['sliding_attention', 'full_attention', 'full_attention', 'full_attention'];
    expect(windows({ ...on, layer_types: listed })).toEqual([16, undefined, undefined, undefined]);
  });

  it('has defaults of its own', () => {
    expect(attentions(without(four, 'rope_theta'))[0]?.rotary?.theta).toBe(2e6);
    expect(specOf(SMOLLM3).tiedEmbeddings).toBe(true);
  });
});

describe('Gemma 3', () => {
  it('has norms around each block, factors, and windows with positions of their own', () => {
    const spec = specOf(GEMMA3_TEXT);
    const norm = { kind: 'rms', eps: 1e-6, weightOffset: 1 };
    for (const layer of spec.layers) expect(layer).toMatchObject({ norms: [norm], postNorm: norm });
    expect(spec).toMatchObject({ embeddingScale: Math.sqrt(1152), tiedEmbeddings: true, finalNorm: norm });
    expect(windows(GEMMA3_TEXT).slice(0, 7)).toEqual([512, 512, 512, 512, 512, undefined, 512]);
    expect(attentions(GEMMA3_TEXT)[0]).toEqual({
      kind: 'attention',
      heads: 4,
      kvHeads: 1,
      headDim: 256,
      rotary: { dim: 256, theta: 10000 },
      qkvBias: false,
      outputBias: false,
      window: 512,
      scale: 1 / 16,
      qkNorm: { eps: 1e-6, weightOffset: 1, over: 'head' },
    });
    expect(attentions(GEMMA3_TEXT)[5]).toMatchObject({ rotary: { dim: 256, theta: 1e6 } });
    expect(mlps(GEMMA3_TEXT)[0]).toMatchObject({ activation: 'geluTanh', gated: true });
  });

  it('reads newer fields as older ones', () => {
    const kinds = ['sliding_attention', 'sliding_attention', 'full_attention'];
    const newer = {
      rope_parameters: {
        sliding_attention: { rope_type: 'default', rope_theta: 500 },
        full_attention: { rope_type: 'linear', rope_theta: 7000, factor: 4 },
      },
      layer_types: kinds,
    };
    const older = {
      rope_theta: 7000,
      rope_local_base_freq: 500,
      rope_scaling: { rope_type: 'linear', factor: 4 },
      sliding_window_pattern: 3,
    };
    const bare = { ...without(GEMMA3_TEXT, ...Object.keys(older)), num_hidden_layers: 3 };
    expect(specOf({ ...bare, ...newer })).toEqual(specOf({ ...bare, ...older }));
    // A scaling belongs to the layers that see everything.
    expect(attentions({ ...bare, ...older }).map(({ rotary }) => [rotary?.theta, rotary?.scaling?.type])).toEqual([
      [500, undefined],
      [500, undefined],
      [7000, 'linear'],
    ]);
  });

  it('that sees holds its text model, without what the class would say anyway', () => {
    const spec = specOf(GEMMA3);
    expect(spec).toMatchObject({ family: 'gemma3', vocabSize: 262208, hiddenSize: 2560, contextLength: 131072 });
    expect(spec.eosTokens).toEqual([1, 106]);
    expect(attentions(GEMMA3)[0]).toMatchObject({ heads: 8, kvHeads: 4, headDim: 256, window: 1024, scale: 1 / 16 });
    expect(attentions(GEMMA3)[5]?.rotary).toEqual({ dim: 256, theta: 1e6, scaling: { type: 'linear', factor: 8 } });
    expect(specOf({ ...GEMMA3, tie_word_embeddings: false }).tiedEmbeddings).toBe(false);
    expect(specOf(without(GEMMA3, 'eos_token_id')).eosTokens).toEqual([1]);
  });
});

describe('Granite', () => {
  it('has four factors', () => {
    const spec = specOf(GRANITE3);
    expect(spec).toMatchObject({ embeddingScale: 12, logitScale: 1 / 8 });
    expect(attentions(GRANITE3)[0]).toMatchObject({ scale: 0.015625, outputScale: 0.22 });
    expect(mlps(GRANITE3)[0]).toMatchObject({ outputScale: 0.22 });
  });

  it('does not divide scores by the root of their size where it has no factor', () => {
    const factors = ['embedding_multiplier', 'residual_multiplier', 'attention_multiplier', 'logits_scaling'];
    const config = without(GRANITE3, ...factors);
    expect(specOf(config)).toMatchObject({ embeddingScale: 1, logitScale: 1 });
    expect(attentions(config)[0]).toMatchObject({ scale: 1, outputScale: 1 });
  });
});

describe('Nemotron', () => {
  it('has layer norms whose weights are stored minus 1, squared ReLU, and turns half of each head', () => {
    const norm = { kind: 'layer', eps: 1e-5, weightOffset: 1 };
    const spec = specOf(PAPER_TRANSFORMER);
    expect(spec).toMatchObject({ finalNorm: norm, tiedEmbeddings: false, contextLength: 4096 });
    for (const { norms } of spec.layers) expect(norms).toEqual([norm]);
    expect(attentions(PAPER_TRANSFORMER)[0]).toEqual({
      kind: 'attention',
      heads: 32,
      kvHeads: 32,
      headDim: 128,
      rotary: { dim: 64, theta: 10000 },
      qkvBias: false,
      outputBias: false,
    });
    expect(mlps(PAPER_TRANSFORMER)[0]).toEqual({
      kind: 'mlp',
      intermediateSize: 16384,
      activation: 'relu2',
      gated: false,
      bias: false,
    });
  });

  it('turns half of each head where the configuration does not say how much, and has biases where it does', () => {
    const config = { ...without(PAPER_TRANSFORMER, 'partial_rotary_factor'), attention_bias: true, mlp_bias: true };
    expect(attentions(config)[0]).toMatchObject({ rotary: { dim: 64 }, qkvBias: true, outputBias: true });
    expect(mlps(config)[0]).toMatchObject({ bias: true });
    const current = { rope_type: 'default', rope_theta: 500, partial_rotary_factor: 0.25 };
    expect(attentions({ ...config, rope_parameters: current })[0]?.rotary).toEqual({ dim: 32, theta: 500 });
  });
});

describe('GPT-NeoX', () => {
  it('has two norms in front of two blocks side by side', () => {
    const norm = { kind: 'layer', eps: 1e-5, weightOffset: 0 };
    const spec = specOf(PYTHIA);
    expect(spec.layers).toHaveLength(12);
    expect(spec.layers[0]).toEqual({
      norms: [norm, norm],
      blocks: [
        {
          kind: 'attention',
          heads: 12,
          kvHeads: 12,
          headDim: 64,
          rotary: { dim: 16, theta: 10000 },
          qkvBias: true,
          outputBias: true,
        },
        { kind: 'mlp', intermediateSize: 3072, activation: 'gelu', gated: false, bias: true },
      ],
    });
    const sequential = specOf({ ...PYTHIA, use_parallel_residual: false });
    expect(sequential.layers).toHaveLength(24);
    expect(sequential.layers.flatMap((layer) => layer.blocks)).toEqual(blocks(PYTHIA));
  });

  it('has biases of the feed-forward layer whatever those of attention are', () => {
    const config = { ...PYTHIA, attention_bias: false };
    expect(attentions(config)[0]).toMatchObject({ qkvBias: false, outputBias: false });
    expect(mlps(config)[0]).toMatchObject({ bias: true });
  });

  it.each<[string, Config, unknown]>([
    ['nothing', {}, { dim: 16, theta: 10000 }],
    ['older fields', { rotary_pct: 0.5, rotary_emb_base: 500 }, { dim: 32, theta: 500 }],
    ['both fields of the part', { rotary_pct: 0.5, partial_rotary_factor: 0.5 }, { dim: 32, theta: 10000 }],
    ['the other field of the part', { partial_rotary_factor: 1 }, { dim: 64, theta: 10000 }],
    [
      'current fields',
      { rope_parameters: { rope_type: 'default', rope_theta: 500, partial_rotary_factor: 0.5 } },
      { dim: 32, theta: 500 },
    ],
  ])('reads positions from %s', (_name, fields, expected) => {
    const bare = without(PYTHIA, 'rotary_pct', 'rotary_emb_base');
    expect(attentions({ ...bare, ...fields })[0]?.rotary).toEqual(expected);
  });
});

describe('GPT-2', () => {
  it('has learned positions, biases everywhere and the head of its embeddings', () => {
    const spec = specOf(GPT2);
    expect(spec).toMatchObject({ learnedPositions: 1024, contextLength: 1024, tiedEmbeddings: true });
    expect(attentions(GPT2)[0]).toEqual({
      kind: 'attention',
      heads: 12,
      kvHeads: 12,
      headDim: 64,
      qkvBias: true,
      outputBias: true,
      scale: 1 / 8,
    });
    expect(mlps(GPT2)[0]).toMatchObject({ intermediateSize: 3072, activation: 'geluTanh', gated: false, bias: true });
    expect(mlps({ ...GPT2, n_inner: 100 })[0]).toMatchObject({ intermediateSize: 100 });
  });

  it.each<[Config, readonly number[]]>([
    [{ scale_attn_by_inverse_layer_idx: true }, [1 / 8, 1 / 16, 1 / 24]],
    [{ scale_attn_weights: false }, [1, 1, 1]],
    [{ scale_attn_weights: false, scale_attn_by_inverse_layer_idx: true }, [1, 1 / 2, 1 / 3]],
  ])('scales scores as %o says', (fields, scales) => {
    expect(attentions({ ...GPT2, n_layer: 3, ...fields }).map(({ scale }) => scale)).toEqual(scales);
  });
});

describe('refuses', () => {
  const sliding = ['sliding_attention', 'full_attention'];
  /** The configuration, and what the message must name. */
  const cases: readonly (readonly [string, Config, ...string[]])[] = [
    ['heads that do not divide the width', { ...LLAMA, num_attention_heads: 5 }, 'num_attention_heads', '5', '48'],
    ['layers of different kinds in Mistral', { ...MISTRAL, layer_types: sliding }, 'layer_types'],
    ['biases in Mistral', { ...MISTRAL, attention_bias: true }, 'attention_bias'],
    ['no window', { ...MISTRAL, sliding_window: 0 }, 'sliding_window', '0'],
    ['Qwen2 without its biases', { ...QWEN2, attention_bias: false }, 'attention_bias'],
    ['biases of feed-forward layers in Qwen3', { ...QWEN3, mlp_bias: true }, 'mlp_bias'],
    [
      'windows that are listed and switched off',
      { ...QWEN2, num_hidden_layers: 2, layer_types: sliding },
      'layer_types',
      'use_sliding_window',
    ],
    [
      'windows that are listed and have no size',
      { ...QWEN3, num_hidden_layers: 2, layer_types: sliding, use_sliding_window: true },
      'sliding_window',
    ],
    [
      'an unknown kind of layer',
      { ...QWEN2, num_hidden_layers: 2, layer_types: ['chunked_attention', 'full_attention'] },
      'layer_types',
      'chunked_attention',
    ],
    ['a list that is too short', { ...SMOLLM3, no_rope_layers: [1, 0] }, 'no_rope_layers', '36'],
    ['other numbers in a list', { ...SMOLLM3, num_hidden_layers: 2, no_rope_layers: [2, 0] }, 'no_rope_layers'],
    ['Gemma 3 without windows', { ...GEMMA3_TEXT, sliding_window: null }, 'sliding_window'],
    ['bounded scores', { ...GEMMA3_TEXT, attn_logit_softcapping: 50 }, 'attn_logit_softcapping', '50'],
    ['bounded logits', { ...GEMMA3_TEXT, final_logit_softcapping: 30 }, 'final_logit_softcapping', '30'],
    ['attention to what follows', { ...GEMMA3_TEXT, use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['a scale of no sense', { ...GEMMA3_TEXT, query_pre_attn_scalar: 0 }, 'query_pre_attn_scalar'],
    ['another text model', { ...GEMMA3, text_config: { model_type: 'gemma2' } }, 'text_config.model_type', 'gemma2'],
    ['logits divided by nothing', { ...GRANITE3, logits_scaling: 0 }, 'logits_scaling', '0'],
    ['an encoder beside', { ...GPT2, add_cross_attention: true }, 'add_cross_attention'],
    ['heads that do not divide in GPT-2', { ...GPT2, n_head: 7 }, 'n_head', 'n_embd'],
    ['heads that turn in no part', { ...PYTHIA, rotary_pct: 0 }, 'rotary_pct'],
    [
      'an odd part of a head with a scaling by index',
      { ...PYTHIA, rotary_pct: 0.3, rope_scaling: { type: 'dynamic', factor: 2 } },
      'dynamic',
      'rotary_pct',
      '19',
    ],
    [
      'a part of a head with a scaling of values',
      { ...PYTHIA, rope_scaling: { type: 'yarn', factor: 2, original_max_position_embeddings: 1024 } },
      'rope_type',
      'rotary_pct',
    ],
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
