import { readFile } from 'node:fs/promises';
import { openSafetensors } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { PlannedWeight } from '../../../packages/models/src/weights/plan.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import type { TensorInfo, TensorSource } from '../../../packages/models/src/weights/source.ts';
import { fileInMemory } from '../../support/checkpoints.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';

const fixture = (name: string): Config => readFixture<Config>(`models/${name}/config.json`);
const FIXTURES = ['lfm2', 'olmo_hybrid', 'qwen3_next', 'qwen3_5_text', 'zamba2'].flatMap((name) => [
  name,
  `variants/${name === 'qwen3_5_text' ? 'qwen3_5_moe' : name}`,
]);

/** The one norm of all heads of a delta net, and their number in every fixture. */
const SHARED_NORM = /linear_attn\.(o_)?norm\.weight$/;
const HEADS = 4;

describe('checkpoints of hybrids', () => {
  const sourceOf = async (name: string): Promise<TensorSource> =>
    openSafetensors(fileInMemory(name, await readFile(fixturePath(`models/${name}/model.safetensors`))));

  /** How often each stored row of each tensor is taken. */
  function uses(plan: readonly PlannedWeight[], { tensors }: TensorSource): Map<string, Set<number>> {
    const counts = new Map<string, number[]>();
    for (const { spec } of plan) {
      const width = spec.kind === 'matrix' ? (spec.shape[spec.shape.length - 1] ?? 1) : 1;
      for (const { name, shape, ranges, transposed } of spec.sources) {
        expect([name, transposed]).toEqual([name, undefined]);
        expect(tensors.get(name)?.shape).toEqual(shape);
        const rows = shape.reduce((product, size) => product * size, 1) / width;
        const taken = counts.get(name) ?? Array.from({ length: rows }, () => 0);
        for (const { first, count } of ranges ?? [{ first: 0, count: rows }])
          for (let row = first; row < first + count; row++) taken[row] = (taken[row] ?? NaN) + 1;
        counts.set(name, taken);
      }
    }
    return new Map([...counts].map(([name, taken]) => [name, new Set(taken)]));
  }

  it.each(FIXTURES)('every row of every tensor of %s has one place', async (name) => {
    const source = await sourceOf(name);
    const parsed = parseConfig(fixture(name));
    const plan = planWeights(parsed, source, 'auto');
    for (const { spec } of plan) {
      const width = spec.kind === 'matrix' ? (spec.shape[spec.shape.length - 1] ?? 1) : 1;
      const taken = spec.sources.reduce(
        (sum, { shape, ranges }) =>
          sum +
          (ranges?.reduce((all, { count }) => all + count * width, 0) ?? shape.reduce((all, size) => all * size, 1)),
        0,
      );
      expect([spec.name, taken]).toEqual([spec.name, spec.shape.reduce((all, size) => all * size, 1)]);
    }
    for (const [tensor, times] of uses(plan, source))
      expect([tensor, ...times]).toEqual([tensor, SHARED_NORM.test(tensor) ? HEADS : 1]);
  });

  const tensor = (name: string, shape: readonly number[]): TensorInfo => ({
    name,
    dtype: 'F32',
    shape,
    byteLength: 4 * shape.reduce((product, size) => product * size, 1),
    file: 'model.safetensors',
    byteOffset: 0,
  });

  it('of Zamba2 may repeat a block in every layer that uses it', async () => {
    const { tensors, ...source } = await sourceOf('zamba2');
    const copies = [...tensors.values()]
      .filter(({ name }) => name.includes('layers.2.shared_transformer'))
      .map(({ name, shape }) => tensor(name.replace('layers.2', 'layers.4'), shape));
    const more = new Map([...tensors, ...copies.map((copy) => [copy.name, copy] as const)]);
    const parsed = parseConfig(fixture('zamba2'));
    expect(copies).toHaveLength(12);
    expect(planWeights(parsed, { ...source, tensors: more }, 'auto')).toEqual(
      planWeights(parsed, { ...source, tensors }, 'auto'),
    );
    const stray = tensor('model.layers.3.shared_transformer.input_layernorm.weight', [64]);
    const strange = new Map([...tensors, [stray.name, stray] as const]);
    expect(() => planWeights(parsed, { ...source, tensors: strange }, 'auto')).toThrow(stray.name);
  });

  it('of Qwen3.5 may lie under the names of a model that also sees', async () => {
    const { tensors, ...source } = await sourceOf('qwen3_5_text');
    const renamed = new Map(
      [
        ...[...tensors.values()].map(({ name, shape }) =>
          tensor(name.replace(/^model\./, 'model.language_model.'), shape),
        ),
        tensor('model.visual.blocks.0.norm1.weight', [8]),
        tensor('mtp.fc.weight', [8, 16]),
      ].map((info) => [info.name, info]),
    );
    const parsed = parseConfig(fixture('qwen3_5_text'));
    const plan = planWeights(parsed, { ...source, tensors: renamed }, 'auto');
    expect(plan.find(({ spec }) => spec.name === 'finalNorm')?.spec.sources[0]?.name).toBe(
      'model.language_model.norm.weight',
    );
    expect(plan.find(({ spec }) => spec.name === 'head')?.spec.sources[0]?.name).toBe('lm_head.weight');
    renamed.delete('model.language_model.layers.1.linear_attn.A_log');
    expect(() => planWeights(parsed, { ...source, tensors: renamed }, 'auto')).toThrow(
      'lacks 1 of the 56 tensors of this qwen3_5_text model: model.language_model.layers.1.linear_attn.A_log.',
    );
  });

  it('names what is missing as the family does, not by its other place', async () => {
    const { tensors, ...source } = await sourceOf('olmo_hybrid');
    const less = new Map(tensors);
    less.delete('model.layers.1.attention_layer_norm.weight');
    expect(() => planWeights(parseConfig(fixture('olmo_hybrid')), { ...source, tensors: less }, 'auto')).toThrow(
      'model.layers.1.attention_layer_norm.weight',
    );
  });
});
