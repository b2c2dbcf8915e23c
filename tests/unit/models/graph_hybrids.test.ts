import type { Dtype, Recording } from '@mambalab/kernels';
import { BASELINE_CAPABILITIES } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { BuildOptions } from '../../../packages/models/src/graph/build.ts';
import { buildDecode, buildPrefill } from '../../../packages/models/src/graph/build.ts';
import { rotaryTables, stateTensors } from '../../../packages/models/src/graph/names.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import { readFixture } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';
import { LFM2, OLMO_HYBRID, QWEN3_5, QWEN3_NEXT, ZAMBA2 } from './hybrid_configs.ts';

function optionsFor(config: Config): BuildOptions {
  const parsed = parseConfig(config);
  return {
    spec: parsed.spec,
    weights: weightsOf(parsed),
    matrixDtype: (): Dtype => 'f16',
    batch: 1,
    capacity: 64,
    cacheDtype: 'f16',
    capabilities: BASELINE_CAPABILITIES,
  };
}

describe.each([
  'lfm2',
  'olmo_hybrid',
  'qwen3_next',
  'qwen3_5_text',
  'zamba2',
  'variants/lfm2',
  'variants/olmo_hybrid',
  'variants/qwen3_next',
  'variants/qwen3_5_moe',
  'variants/zamba2',
])('a recording of %s', (name) => {
  const options = optionsFor(readFixture<Config>(`models/${name}/config.json`));
  const names = (...control: readonly string[]): string[] =>
    [
      ...options.weights.map((weight) => weight.name),
      ...stateTensors(options.spec, 1, 64, 'f16').map((tensor) => tensor.name),
      ...rotaryTables(options.spec).keys(),
      ...control,
    ].sort();

  it.each<[string, Recording, readonly string[]]>([
    ['a token', buildDecode(options), ['token', 'position', 'logits', 'settings']],
    ['a prompt', buildPrefill(options, 64, 'last'), ['tokens', 'position', 'logits']],
  ])('for %s uses every weight and every state', (_name, { dispatches, externals }, control) => {
    expect([...externals.keys()].sort()).toEqual(names(...control));
    const used = new Set(dispatches.flatMap(({ bindings }) => bindings.map(({ storage }) => storage.name)));
    for (const external of externals.keys()) expect(used).toContain(external);
  });
});

it.each<[string, Config]>([
  ['LFM2', LFM2],
  ['OLMo-Hybrid', { ...OLMO_HYBRID, num_hidden_layers: 4 }],
  ['Qwen3-Next', { ...QWEN3_NEXT, num_hidden_layers: 4 }],
  ['Qwen3.5', { ...QWEN3_5, num_hidden_layers: 4 }],
  ['Zamba2', { ...ZAMBA2, num_hidden_layers: 6, hybrid_layer_ids: [5] }],
])('kernels take the sizes of %s', (_name, config) => {
  const options = optionsFor(config);
  expect(buildDecode(options).dispatches.length).toBeGreaterThan(options.spec.layers.length);
  expect(buildPrefill(options, 512, 'last').dispatches.length).toBeGreaterThan(options.spec.layers.length);
});

/** Dispatches of each layer, one after another. */
function perLayer(config: Config): number[] {
  const { dispatches } = buildDecode(optionsFor(config));
  const counts: number[] = [];
  for (const { label } of dispatches) {
    const layer = /^layers\.(\d+)\//.exec(label)?.[1];
    if (layer !== undefined) counts[Number(layer)] = (counts[Number(layer)] ?? 0) + 1;
  }
  return counts;
}

describe('a token takes', () => {
  it('3 dispatches for a short convolution, and 5 for attention that normalises its heads', () => {
    const config = { ...LFM2, num_hidden_layers: 2, full_attn_idxs: [1] };
    expect(perLayer(config)).toEqual([3, 2, 5, 2]);
  });

  it('5 for a gated delta net, and 9 for experts with a gated layer beside them', () => {
    expect(perLayer({ ...QWEN3_NEXT, num_hidden_layers: 4 }).slice(0, 2)).toEqual([5, 9]);
  });

  it('3 dispatches for Mamba-2, and 15 for a shared block in front with adapters of attention, 11 without', () => {
    const config = { ...ZAMBA2, num_hidden_layers: 2, hybrid_layer_ids: [1] };
    expect(perLayer(config)).toEqual([3, 3 + 15]);
    expect(perLayer({ ...config, use_shared_attention_adapter: false })).toEqual([3, 3 + 11]);
  });
});
