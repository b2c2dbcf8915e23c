import { readFile } from 'node:fs/promises';
import { WeightFormatError } from '@mambalab/kernels';
import { openSafetensors } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import type { PlannedWeight } from '../../../packages/models/src/weights/plan.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import type { TensorInfo, TensorSource } from '../../../packages/models/src/weights/source.ts';
import { fileInMemory } from '../../support/checkpoints.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';
import { GPT2, PYTHIA } from './transformer_configs.ts';

const FAMILIES = 'llama mistral qwen2 qwen3 smollm3 gemma3_text granite nemotron gpt_neox gpt2'.split(' ');
const VARIANTS = ['llama', 'mistral', 'qwen2', 'gemma3', 'granite', 'gpt_neox', 'gpt2'].map(
  (name) => `variants/${name}`,
);

const configOf = (name: string): Config => readFixture<Config>(`models/${name}/config.json`);
const sourceOf = async (name: string): Promise<TensorSource> =>
  openSafetensors(fileInMemory(name, await readFile(fixturePath(`models/${name}/model.safetensors`))));
const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** How often each row of each stored tensor that is taken is taken; rows of a transposed matrix are its columns. */
function uses(plan: readonly PlannedWeight[]): Map<string, number[]> {
  const times = new Map<string, number[]>();
  for (const { spec } of plan) {
    const width = spec.kind === 'matrix' ? (spec.shape[1] ?? 1) : 1;
    for (const { name, shape, ranges } of spec.sources) {
      const taken = times.get(name) ?? Array<number>(count(shape) / width).fill(0);
      for (const { first, count: rows } of ranges ?? [{ first: 0, count: taken.length }])
        for (let row = first; row < first + rows; row++) taken[row] = (taken[row] ?? NaN) + 1;
      times.set(name, taken);
    }
  }
  return times;
}

describe('checkpoints of Transformers', () => {
  it.each([...FAMILIES, ...VARIANTS])('every row of every tensor of %s has one place', async (name) => {
    const source = await sourceOf(name);
    const plan = planWeights(parseConfig(configOf(name)), source, 'auto');
    const times = uses(plan);
    for (const [tensor, taken] of times) expect([tensor, ...new Set(taken)]).toEqual([tensor, 1]);
    const unused = [...source.tensors.keys()].filter((tensor) => !times.has(tensor));
    expect(unused.filter((tensor) => !/bias$|^vision_tower\./.test(tensor))).toEqual([]);
    for (const { spec } of plan) {
      const rows = spec.sources.map(({ shape, ranges }) =>
        ranges === undefined
          ? count(shape)
          : ranges.reduce((sum, range) => sum + range.count, 0) * (spec.kind === 'matrix' ? (spec.shape[1] ?? 1) : 1),
      );
      expect([spec.name, rows.reduce((sum, values) => sum + values, 0)]).toEqual([spec.name, count(spec.shape)]);
    }
  });

  it('of GPT-NeoX hold the parts of one head after those of another', () => {
    const weights = weightsOf(parseConfig({ ...PYTHIA, hidden_size: 12, num_attention_heads: 2, rotary_pct: 1 }));
    const parts = (name: string): unknown =>
      weights.find((weight) => weight.name === name)?.sources.map(({ ranges }) => ranges?.map(({ first }) => first));
    const firsts = [
      [0, 18],
      [6, 24],
      [12, 30],
    ];
    expect(parts('layers.0.0.qkv')).toEqual(firsts);
    expect(parts('layers.0.0.qkvBias')).toEqual(firsts);
  });

  it('of GPT-2 hold transposed matrices, and biases in one piece', () => {
    const weights = weightsOf(parseConfig({ ...GPT2, n_embd: 24, n_head: 4, n_layer: 1 }));
    const stored = (name: string): unknown =>
      weights
        .find((weight) => weight.name === name)
        ?.sources.map(({ name: source, shape, ranges, transposed }) => [
          source,
          shape,
          ranges?.[0]?.first ?? 0,
          transposed === true,
        ]);
    const part = (first: number): unknown[] => ['transformer.h.0.attn.c_attn.weight', [24, 72], first, true];
    expect(stored('layers.0.0.qkv')).toEqual([part(0), part(24), part(48)]);
    expect(stored('layers.1.0.down')).toEqual([['transformer.h.0.mlp.c_proj.weight', [96, 24], 0, true]]);
    expect(stored('layers.1.0.downBias')).toEqual([['transformer.h.0.mlp.c_proj.bias', [24], 0, false]]);
    const bias = (first: number): unknown[] => ['transformer.h.0.attn.c_attn.bias', [72], first, false];
    expect(stored('layers.0.0.qkvBias')).toEqual([bias(0), bias(24), bias(48)]);
  });
});

describe('other names', () => {
  const renamed = (source: TensorSource, change: (name: string) => string): TensorSource => {
    const tensors = [...source.tensors.values()].map((info) => ({ ...info, name: change(info.name) }));
    return { ...source, tensors: new Map(tensors.map((info) => [info.name, info])) };
  };
  const withTensor = (source: TensorSource, name: string, shape: readonly number[]): TensorSource => {
    const info: TensorInfo = { name, dtype: 'F32', shape, byteLength: 4 * count(shape), file: 'x', byteOffset: 0 };
    return { ...source, tensors: new Map([...source.tensors, [name, info]]) };
  };
  const namesOf = (name: string, source: TensorSource): string[] =>
    planWeights(parseConfig(configOf(name)), source, 'auto').flatMap(({ spec }) =>
      spec.sources.map((part) => part.name),
    );

  it('of GPT-2 go without their beginning, beside a head that is the embedding', async () => {
    const name = 'gpt2';
    const bare = (text: string): string => text.replace(/^transformer\./, '');
    const source = await sourceOf(name);
    const other = withTensor(renamed(source, bare), 'lm_head.weight', [128, 32]);
    expect(namesOf(name, other)).toEqual(namesOf(name, source).map(bare));
  });

  it.each([
    ['language_model.model.', 'language_model.lm_head.weight', 'vision_tower.x', 'multi_modal_projector.y'],
    ['model.language_model.', 'lm_head.weight', 'model.vision_tower.x', 'model.multi_modal_projector.y'],
  ])('of Gemma 3 that sees begin with %s', async (beginning, head, ...pictures) => {
    const name = 'variants/gemma3';
    const source = await sourceOf(name);
    const change = (text: string): string => text.replace(/^language_model\.model\./, beginning);
    const other = pictures.reduce(
      (made, picture) => withTensor(made, picture, [3]),
      withTensor(renamed(source, change), head, [32, 16]),
    );
    expect(namesOf(name, other)).toEqual(namesOf(name, source).map(change));
  });

  it('do not mix in one checkpoint', async () => {
    const source = await sourceOf('gpt2');
    const mixed = renamed(source, (text) => text.replace(/^transformer\.h\.1/, 'h.1'));
    expect(() => namesOf('gpt2', mixed)).toThrow(WeightFormatError);
  });

  it.each([
    ['gpt2', 'transformer.h.0.attn.bias', 'transformer.h.0.attn.c_other.bias'],
    ['gpt2', 'transformer.h.2.attn.masked_bias', 'transformer.h.2.mlp.masked_bias'],
    ['gpt_neox', 'gpt_neox.layers.1.attention.bias', 'gpt_neox.layers.1.attention.other.bias'],
    ['gpt_neox', 'gpt_neox.layers.1.attention.rotary_emb.inv_freq', 'gpt_neox.layers.1.inv_freq'],
    ['gemma3_text', 'model.layers.0.self_attn.rotary_emb.inv_freq', 'vision_tower.x'],
    ['nemotron', 'model.layers.0.self_attn.rotary_emb.inv_freq', 'model.layers.0.mlp.gate_proj.weight'],
  ])('of %s pass over %s and not over %s', async (name, spare, unknown) => {
    const source = await sourceOf(name);
    expect(namesOf(name, withTensor(source, spare, [1]))).toEqual(namesOf(name, source));
    expect(() => namesOf(name, withTensor(source, unknown, [1]))).toThrow(unknown);
  });
});
