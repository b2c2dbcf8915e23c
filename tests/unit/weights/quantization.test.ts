import { ArgumentError, parseConfig } from '@mambalab/models';
import type { Quantization, WeightDtype } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { fixturePath } from '../../support/fixtures.ts';

async function planOf(
  name: string,
  dtype: WeightDtype,
  quantization?: Quantization,
): Promise<ReadonlyMap<string, string>> {
  const { config, source } = await openCheckpoint(await openNodeFolder(fixturePath(`models/${name}`)));
  try {
    const plan = planWeights(parseConfig(config), source, dtype, quantization);
    return new Map(
      plan.map((weight) => [weight.spec.name, weight.dtype + (weight.search === true ? ' by search' : '')]),
    );
  } finally {
    await source.dispose();
  }
}

const rolesIn = (plan: ReadonlyMap<string, string>, dtype: string): string[] =>
  [...new Set([...plan].filter(([, stored]) => stored === dtype).map(([name]) => name.split('.').at(-1) ?? ''))].sort();

describe('quantization', () => {
  it.each([
    ['mamba', ['inProjection', 'outProjection', 'xProjection']],
    ['mamba2', ['inProjection', 'outProjection']],
    ['jamba', ['down', 'gate', 'inProjection', 'outProjection', 'output', 'qkv', 'up', 'xProjection']],
    ['gpt2', ['down', 'output', 'qkv', 'up']],
  ])('of %s leaves embeddings, head, router, norms, convolutions, A, dt, D and biases alone', async (name, roles) => {
    const plan = await planOf(name, 'q4');
    expect(rolesIn(plan, 'q4')).toEqual(roles);
    // As stored: the fixture of Jamba has bfloat16.
    expect(plan.get('embedding')).toBe(name === 'jamba' ? 'bf16' : 'f32');
  });

  it('searches where that is asked for, and only in q4', async () => {
    const quantization = { method: 'search', tensors: { qkv: 'q8' } } as const;
    const plan = await planOf('llama', 'q4', quantization);
    expect(rolesIn(plan, 'q4 by search')).toEqual(['down', 'gate', 'output', 'up']);
    expect(rolesIn(plan, 'q8')).toEqual(['qkv']);
    expect(rolesIn(await planOf('llama', 'q4', { method: 'round' }), 'q4')).toContain('qkv');
    expect(rolesIn(await planOf('llama', 'q8', { method: 'search' }), 'q8')).toContain('qkv');
  });

  it('follows names of the checkpoint, of weights, and roles, the first that fits', async () => {
    const plan = await planOf('llama', 'q4', {
      tensors: {
        'model.layers.0.self_attn.k_proj.weight': 'exact',
        'layers.2.0.qkv': 'q8',
        '*.0.mlp.*': 'q8',
        down: 'exact',
        'lm_head.weight': 'q8',
        embedding: 'q4',
      },
    });
    // One matrix of queries, keys and values: what holds for a part of it holds for all.
    expect([0, 2].map((layer) => plan.get(`layers.${layer}.0.qkv`))).toEqual(['f32', 'q8']);
    expect(plan.get('layers.1.0.down')).toBe('q8');
    expect(plan.get('layers.3.0.down')).toBe('f32');
    expect([plan.get('embedding'), plan.get('head')]).toEqual(['q4', 'q8']);
  });

  it('takes the head of a tied model for its embedding', async () => {
    expect((await planOf('mamba2', 'q4', { tensors: { head: 'q8' } })).get('embedding')).toBe('q8');
  });

  it.each<[string, WeightDtype, unknown, RegExp]>([
    ['a dtype without blocks', 'f16', {}, /'quantization' is given with dtype 'f16'/],
    ['an unknown method', 'q4', { method: 'guess' }, /'quantization\.method' is 'guess'/],
    ['an unknown storage', 'q4', { tensors: { head: 'q3' } }, /stores 'head' as 'q3'/],
    ['a name that nothing has', 'q4', { tensors: { haed: 'q8' } }, /'haed', which no tensor.*embedding, qkv/s],
    ['a pattern that is no expression', 'q4', { tensors: { 'h.ad': 'q8' } }, /'h\.ad', which no tensor/],
    ['blocks for what kernels read exactly', 'q4', { tensors: { finalNorm: 'q8' } }, /'finalNorm' in q8.*exactly/],
  ])('refuses %s', async (_what, dtype, quantization, message) => {
    const planning = planOf('llama', dtype, quantization as Quantization);
    await expect(planning).rejects.toThrow(ArgumentError);
    const error: unknown = await planning.catch((caught: unknown) => caught);
    expect(error instanceof ArgumentError ? `${error.message} ${error.hint}` : '').toMatch(message);
  });
});
