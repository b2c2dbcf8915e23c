import type { Dtype, Recording, Size } from '@mambalab/kernels';
import { BASELINE_CAPABILITIES } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { BuildOptions } from '../../../packages/models/src/graph/build.ts';
import { buildDecode, buildPrefill, buildSample } from '../../../packages/models/src/graph/build.ts';
import { rotaryTables, stateTensors } from '../../../packages/models/src/graph/names.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import type { Config } from './configs.ts';
import { LLAMA, MAMBA2, NEMOTRON_H, PAPER_HYBRID } from './configs.ts';

function optionsFor(config: Config, options: Partial<BuildOptions> = {}): BuildOptions {
  const parsed = parseConfig(config);
  return {
    spec: parsed.spec,
    weights: weightsOf(parsed),
    matrixDtype: (): Dtype => 'f16',
    batch: 1,
    capacity: 64,
    cacheDtype: 'f16',
    capabilities: BASELINE_CAPABILITIES,
    ...options,
  };
}

/** Dispatches by the first part of their labels: `layers.3`, `head`, or the family of a kernel that stands alone. */
function countDispatches({ dispatches }: Recording): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { label } of dispatches) {
    const [scope = ''] = label.split('/');
    counts[scope] = (counts[scope] ?? 0) + 1;
  }
  return counts;
}

/** The dispatches of a layer of each kind, one after the other as in `M-*`. */
const perLayer = (mamba2: number, mlp: number, attention: number): Record<string, number> => ({
  'layers.0': mamba2,
  'layers.1': mlp,
  'layers.2': attention,
});

describe('a token', () => {
  it('takes 3 dispatches for a Mamba-2, 2 for a feed-forward, 4 for an attention layer', () => {
    const recording = buildDecode(optionsFor(NEMOTRON_H));
    // Beside the layers: the embedding and the two of sampling; the head normalises by itself.
    expect(countDispatches(recording)).toEqual({ ...perLayer(3, 2, 4), token: 3, head: 1 });
  });

  it('takes 5 for a Mamba-2 layer whose sizes the fused passes do not take', () => {
    const recording = buildDecode(optionsFor({ ...NEMOTRON_H, ssm_state_size: 10 }));
    expect(countDispatches(recording)).toMatchObject(perLayer(5, 2, 4));
  });

  it('takes one more for attention over a long context, where workgroups share the keys', () => {
    const recording = buildDecode(optionsFor(NEMOTRON_H, { capacity: 8192 }));
    expect(countDispatches(recording)).toMatchObject(perLayer(3, 2, 5));
  });

  it('of the 8B hybrid takes 152 dispatches', () => {
    const recording = buildDecode(optionsFor(PAPER_HYBRID, { capacity: 8192 }));
    expect(recording.dispatches).toHaveLength(24 * 3 + 28 * 2 + 4 * 5 + 3 + 1);
  });

  it.each([LLAMA, MAMBA2, NEMOTRON_H])('depends on no size that is set from run to run ($model_type)', (config) => {
    const sizes: Size[] = buildDecode(optionsFor(config)).dispatches.flatMap(({ params, workgroups }) => [
      ...Object.values(params),
      ...workgroups,
    ]);
    expect(sizes.filter((size) => typeof size !== 'number')).toEqual([]);
  });
});

describe('a prompt', () => {
  it('of more rows than a matrix-vector product takes is normalised in front of each layer', () => {
    const options = optionsFor(NEMOTRON_H);
    // The scan over chunks is five dispatches.
    const layers = perLayer(10, 3, 5);
    // Beside the layers: the embedding, and the count of tokens.
    expect(countDispatches(buildPrefill(options, 64, 'none'))).toEqual({ ...layers, token: 2 });
    expect(countDispatches(buildPrefill(options, 64, 'all'))).toEqual({ ...layers, token: 2, head: 2 });
    // The head sees one row, and normalises by itself.
    expect(countDispatches(buildPrefill(options, 64, 'last'))).toEqual({ ...layers, token: 2, head: 1 });
  });

  it('of few rows leaves the norms to the projections', () => {
    const recording = buildPrefill(optionsFor(NEMOTRON_H), 8, 'all');
    expect(countDispatches(recording)).toEqual({ ...perLayer(9, 2, 4), token: 2, head: 1 });
  });

  it('keeps the logits of all tokens only where they are asked for', () => {
    const outputs = (head: 'none' | 'last' | 'all'): string[] => [
      ...buildPrefill(optionsFor(LLAMA), 64, head).outputs.keys(),
    ];
    expect([outputs('none'), outputs('last'), outputs('all')]).toEqual([[], [], ['allLogits']]);
  });
});

it('choosing a token from logits is two dispatches that need no weight', () => {
  const recording = buildSample(optionsFor(LLAMA));
  expect(countDispatches(recording)).toEqual({ token: 2 });
  expect([...recording.externals.keys()].sort()).toEqual(['logits', 'position', 'settings', 'token']);
});

describe.each<[string, Config]>([
  ['llama', LLAMA],
  ['llama with biases', { ...LLAMA, attention_bias: true }],
  ['mamba2', MAMBA2],
  ['mamba2 with biases', { ...MAMBA2, use_bias: true, tie_word_embeddings: false }],
  ['mamba2 without a bias of the convolution', { ...MAMBA2, use_conv_bias: false }],
  ['nemotron_h', NEMOTRON_H],
])('%s', (_name, config) => {
  const options = optionsFor(config);
  const names = (control: readonly string[]): string[] =>
    [
      ...options.weights.map(({ name }) => name),
      ...stateTensors(options.spec, 1, 64, 'f16').map(({ name }) => name),
      ...rotaryTables(options.spec).keys(),
      ...control,
    ].sort();

  it('binds exactly its weights, its states and what controls it, by name', () => {
    const decode = buildDecode(options);
    expect([...decode.externals.keys()].sort()).toEqual(names(['token', 'position', 'logits', 'settings']));
    const prefill = buildPrefill(options, 64, 'last');
    expect([...prefill.externals.keys()].sort()).toEqual(names(['tokens', 'position', 'logits']));
  });

  it('every external tensor is used, and states have the shapes that sequences give them', () => {
    const states = stateTensors(options.spec, 1, 64, 'f16');
    for (const recording of [
      buildDecode(options),
      buildPrefill(options, 8, 'all'),
      buildPrefill(options, 64, 'last'),
    ]) {
      const used = new Set(recording.dispatches.flatMap(({ bindings }) => bindings.map(({ storage }) => storage.name)));
      for (const name of recording.externals.keys()) expect(used).toContain(name);
      for (const { name, dtype, shape } of states)
        expect(recording.externals.get(name)).toMatchObject({ dtype, shape });
    }
  });
});

it('matrices keep the dtype that each was loaded with, vectors are f32', () => {
  const matrixDtype = (name: string): Dtype => (name === 'head' ? 'bf16' : 'f16');
  const { externals } = buildDecode(optionsFor(LLAMA, { matrixDtype }));
  expect(externals.get('head')?.dtype).toBe('bf16');
  expect(externals.get('layers.0.0.qkv')?.dtype).toBe('f16');
  expect(externals.get('layers.0.norm')?.dtype).toBe('f32');
});

it('several sequences decode in one recording', () => {
  const { externals } = buildDecode(optionsFor(NEMOTRON_H, { batch: 3 }));
  expect(externals.get('token')?.shape).toEqual([3]);
  expect(externals.get('logits')?.shape).toEqual([3, 64]);
  expect(externals.get('layers.0.0.ssm')?.shape).toEqual([3, 4, 8, 16]);
});
