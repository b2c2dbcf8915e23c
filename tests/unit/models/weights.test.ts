import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import {
  cacheBytesPerToken,
  hasAttention,
  rotaryTables,
  stateTensors,
} from '../../../packages/models/src/graph/names.ts';
import { paper } from '../../../packages/models/src/paper.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import type { PlannedWeight, WeightDtype } from '../../../packages/models/src/weights/plan.ts';
import { planWeights, splitTables, weightBytes } from '../../../packages/models/src/weights/plan.ts';
import type { SourceDtype, TensorInfo, TensorSource } from '../../../packages/models/src/weights/source.ts';
import type { Config } from './configs.ts';
import { LLAMA, MAMBA2, NEMOTRON_H, PAPER_HYBRID, PAPER_MAMBA2 } from './configs.ts';

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
const parametersOf = (config: Config): number =>
  weightsOf(parseConfig(config)).reduce((sum, { shape }) => sum + count(shape), 0);

describe('the models of arXiv 2406.07887', () => {
  it('have exactly the parameters of the paper', () => {
    expect(parametersOf(PAPER_HYBRID)).toBe(8_654_517_248);
    expect(parametersOf(PAPER_MAMBA2)).toBe(8_236_999_680);
  });

  it('are presets of that size', () => {
    expect(parametersOf(paper.hybrid8b)).toBe(8_654_517_248);
    expect(parametersOf(paper.mamba2_8b)).toBe(8_236_999_680);
    expect(parametersOf(paper.transformer8b)).toBe(8_540_135_424);
    // In, x, dt and out projections, filters with biases, A, D and the bias of dt, a norm; embedding, head and last norm.
    const mamba = 4096 * 16_384 + 8192 * (256 + 2 * 128) + 8192 * 256 + 8192 * 4096 + 8192 * (4 + 1 + 128 + 2) + 4096;
    expect(parametersOf(paper.mamba8b)).toBe(56 * mamba + 2 * 256_000 * 4096 + 4096);
  });

  it('have states of constant size and small caches', () => {
    const { spec } = parseConfig(PAPER_HYBRID);
    const tensors = stateTensors(spec, 1, 4096, 'f16');
    const ssm = tensors.filter(({ name }) => name.endsWith('.ssm'));
    expect(ssm).toHaveLength(24);
    for (const { shape, dtype, kind } of ssm) {
      expect(shape).toEqual([1, 128, 64, 128]);
      expect([dtype, kind]).toEqual(['f32', 'state']);
    }
    expect(ssm.reduce((sum, { shape }) => sum + 4 * count(shape), 0)).toBe(24 * 4 * 2 ** 20);
    const conv = tensors.filter(({ name }) => name.endsWith('.conv'));
    expect(conv).toHaveLength(24);
    // The channels of x and of eight groups of B and C.
    for (const { shape } of conv) expect(shape).toEqual([1, 3, 8192 + 2 * 8 * 128]);
    const caches = tensors.filter(({ kind }) => kind === 'cache');
    expect(caches).toHaveLength(8);
    for (const { shape, dtype } of caches) expect([dtype, ...shape]).toEqual(['f16', 1, 4096, 8, 128]);
    expect(cacheBytesPerToken(spec, 'f16')).toBe(16_384);
    expect(cacheBytesPerToken(spec, 'f32')).toBe(32_768);
    expect(hasAttention(spec)).toBe(true);
    expect(rotaryTables(spec).size).toBe(0);
  });

  it('without attention cache nothing', () => {
    const { spec } = parseConfig(PAPER_MAMBA2);
    expect(cacheBytesPerToken(spec, 'f16')).toBe(0);
    expect(hasAttention(spec)).toBe(false);
    expect(stateTensors(spec, 2, 1, 'f16').every(({ kind, shape }) => kind === 'state' && shape[0] === 2)).toBe(true);
  });
});

it('layers with the same positions share one table of frequencies', () => {
  expect([...rotaryTables(parseConfig(LLAMA).spec).values()]).toEqual([{ dim: 8, theta: 500000 }]);
});

describe('weightsOf', () => {
  it('gives every weight a name of its own and sources of the same size', () => {
    for (const config of [
      LLAMA,
      MAMBA2,
      NEMOTRON_H,
      { ...LLAMA, attention_bias: true },
      { ...MAMBA2, use_bias: true },
    ]) {
      const weights = weightsOf(parseConfig(config));
      expect(new Set(weights.map(({ name }) => name)).size).toBe(weights.length);
      for (const { name, shape, sources } of weights) {
        const stored = sources.reduce((sum, source) => sum + count(source.shape), 0);
        expect([name, stored]).toEqual([name, count(shape)]);
      }
    }
  });

  it('joins query, key and value by rows', () => {
    const qkv = weightsOf(parseConfig(LLAMA)).find(({ name }) => name === 'layers.0.0.qkv');
    expect(qkv).toEqual({
      name: 'layers.0.0.qkv',
      kind: 'matrix',
      shape: [80, 48],
      sources: [
        { name: 'model.layers.0.self_attn.q_proj.weight', shape: [48, 48] },
        { name: 'model.layers.0.self_attn.k_proj.weight', shape: [16, 48] },
        { name: 'model.layers.0.self_attn.v_proj.weight', shape: [16, 48] },
      ],
    });
  });

  it('a tied head is no weight of its own', () => {
    expect(weightsOf(parseConfig(MAMBA2)).some(({ name }) => name === 'head')).toBe(false);
    expect(weightsOf(parseConfig(LLAMA)).some(({ name }) => name === 'head')).toBe(true);
  });
});

/** A source that holds what the model needs, changed by `change`; no bytes. */
function sourceFor(config: Config, change: (tensors: Map<string, TensorInfo>) => void = () => undefined): TensorSource {
  const tensors = new Map<string, TensorInfo>();
  for (const { sources } of weightsOf(parseConfig(config))) {
    for (const { name, shape } of sources) tensors.set(name, info(name, shape));
  }
  change(tensors);
  return { tensors, read: () => Promise.reject(new Error('no byte may be read')), dispose: () => Promise.resolve() };
}

function info(name: string, shape: readonly number[], dtype: SourceDtype = 'F32'): TensorInfo {
  return { name, dtype, shape, byteLength: 4 * count(shape), file: 'model.safetensors', byteOffset: 0 };
}

function retype(tensors: Map<string, TensorInfo>, pattern: RegExp, dtype: SourceDtype): void {
  for (const [name, tensor] of tensors) if (pattern.test(name)) tensors.set(name, { ...tensor, dtype });
}

const planOf = (config: Config, source: TensorSource, dtype: WeightDtype = 'auto'): Map<string, string> =>
  new Map(planWeights(parseConfig(config), source, dtype).map((weight) => [weight.spec.name, weight.dtype]));

describe('planWeights', () => {
  const refusal = (source: TensorSource, config: Config = LLAMA): Error => {
    try {
      planOf(config, source);
    } catch (error) {
      if (error instanceof Error) return error;
    }
    throw new Error('nothing was refused');
  };

  it('names what is missing', () => {
    const error = refusal(sourceFor(LLAMA, (tensors) => tensors.delete('model.layers.1.mlp.up_proj.weight')));
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(error.message).toContain(
      'lacks 1 of the 21 tensors of this llama model: model.layers.1.mlp.up_proj.weight.',
    );
  });

  it('names the first five of many', () => {
    const error = refusal(sourceFor(LLAMA, (tensors) => tensors.clear()));
    expect(error.message).toContain('and 16 more');
    expect(error.message).not.toContain('layers.1.');
  });

  it('names what has another shape, and both shapes', () => {
    const name = 'model.layers.0.self_attn.k_proj.weight';
    const error = refusal(sourceFor(LLAMA, (tensors) => tensors.set(name, info(name, [48, 16]))));
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(error.message).toContain(`${name} is (48, 16), expected (16, 48)`);
  });

  it('a convolution needs its middle dimension', () => {
    const name = 'backbone.layers.0.mixer.conv1d.weight';
    const error = refusal(
      sourceFor(MAMBA2, (tensors) => tensors.set(name, info(name, [96, 4]))),
      MAMBA2,
    );
    expect(error.message).toContain(`${name} is (96, 4), expected (96, 1, 4)`);
  });

  it('names what is too much', () => {
    const name = 'model.layers.0.self_attn.q_proj.bias';
    const error = refusal(sourceFor(LLAMA, (tensors) => tensors.set(name, info(name, [48]))));
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(error.message).toContain(`holds 1 tensors that a llama model with this config.json does not have: ${name}.`);
  });

  it('a tied head may be stored twice, another head may not', () => {
    const twice = sourceFor(MAMBA2, (tensors) => tensors.set('lm_head.weight', info('lm_head.weight', [64, 16])));
    expect(planOf(MAMBA2, twice).has('head')).toBe(false);
    const bias = sourceFor(MAMBA2, (tensors) => tensors.set('lm_head.bias', info('lm_head.bias', [64])));
    expect(refusal(bias, MAMBA2).message).toContain('lm_head.bias');
  });

  it('passes over stored frequencies', () => {
    const name = 'model.layers.0.self_attn.rotary_emb.inv_freq';
    const source = sourceFor(LLAMA, (tensors) => tensors.set(name, info(name, [2])));
    expect(planOf(LLAMA, source).size).toBe(weightsOf(parseConfig(LLAMA)).length);
  });

  it.each<[string, SourceDtype]>([
    ['model.norm.weight', 'I32'],
    ['model.layers.0.mlp.up_proj.weight', 'I8'],
    ['lm_head.weight', 'F8_E4M3'],
  ])('refuses %s in %s', (name, dtype) => {
    const error = refusal(sourceFor(LLAMA, (tensors) => retype(tensors, new RegExp(`^${name}$`), dtype)));
    expect(error).toBeInstanceOf(UnsupportedModelError);
    expect(error.message).toContain(name);
    expect(error.message).toContain(dtype);
  });

  it.each<[SourceDtype, string]>([
    ['F32', 'f32'],
    ['F64', 'f32'],
    ['F16', 'f16'],
    ['BF16', 'bf16'],
  ])('auto keeps matrices in %s as %s, and vectors in f32', (stored, dtype) => {
    const source = sourceFor(LLAMA, (tensors) => retype(tensors, /./, stored));
    for (const { spec, dtype: planned } of planWeights(parseConfig(LLAMA), source, 'auto')) {
      expect([spec.name, planned]).toEqual([spec.name, spec.kind === 'matrix' ? dtype : 'f32']);
    }
  });

  it('auto decides for each matrix, and widens parts that differ', () => {
    const source = sourceFor(LLAMA, (tensors) => {
      retype(tensors, /./, 'BF16');
      retype(tensors, /layers\.0\.self_attn\.v_proj|embed_tokens/, 'F16');
    });
    const plan = planOf(LLAMA, source);
    expect(plan.get('embedding')).toBe('f16');
    expect(plan.get('layers.0.0.qkv')).toBe('f32');
    expect(plan.get('layers.1.0.gate')).toBe('bf16');
    expect(plan.get('layers.2.0.qkv')).toBe('bf16');
  });

  it.each<WeightDtype>(['f32', 'f16', 'bf16'])('stores matrices in %s where that is asked for', (dtype) => {
    const plan = planOf(LLAMA, sourceFor(LLAMA), dtype);
    expect([plan.get('layers.0.0.qkv'), plan.get('finalNorm')]).toEqual([dtype, 'f32']);
  });
});

describe('splitTables', () => {
  const planOf = (config: Config): PlannedWeight[] =>
    weightsOf(parseConfig(config)).map((spec) => ({ spec, dtype: 'f32' }));

  it('splits embedding and head by rows, and nothing else', () => {
    // 256,000 rows of 4,096 values in f32 are 3.9 GiB; Dawn binds at most 2 GiB less 4 bytes of NVIDIA's Vulkan.
    const plan = planOf(PAPER_HYBRID);
    const largest = 2 ** 31 - 4;
    const fitted = splitTables(plan, largest);
    expect(fitted).toHaveLength(plan.length + 2);
    for (const { spec, dtype } of fitted) expect(weightBytes(spec, dtype)).toBeLessThanOrEqual(largest);
    for (const table of ['embedding', 'head']) {
      const parts = fitted.filter(({ spec }) => spec.name.startsWith(`${table}.part`));
      expect(parts.map(({ spec }) => spec.name)).toEqual([`${table}.part0`, `${table}.part1`]);
      let first = 0;
      for (const { spec } of parts) {
        const [rows = 0] = spec.shape;
        expect(spec.sources).toMatchObject([{ shape: [256_000, 4096], ranges: [{ first, count: rows }] }]);
        first += rows;
      }
      expect(first).toBe(256_000);
    }
    expect(splitTables(plan, 2 ** 32)).toEqual(plan);
  });

  it.each([
    ['a matrix of a layer', 2 ** 27, /'layers\.0\.0\.inProjection' takes 304087040 bytes as f32.*169869312 too few/],
    ['fewer rows than belong together', 4096, /'embedding' takes/],
  ])('refuses %s', (_name, largest, message) => {
    expect(() => splitTables(planOf(PAPER_HYBRID), largest)).toThrow(UnsupportedModelError);
    expect(() => splitTables(planOf(PAPER_HYBRID), largest)).toThrow(message);
  });
});
