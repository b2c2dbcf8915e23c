import type { Dtype, Recording } from '@mambalab/kernels';
import { BASELINE_CAPABILITIES } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { BuildOptions } from '../../../packages/models/src/graph/build.ts';
import { buildDecode, buildPrefill } from '../../../packages/models/src/graph/build.ts';
import { rotaryTables, stateTensors } from '../../../packages/models/src/graph/names.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import type { Config } from './configs.ts';
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

function optionsFor(config: Config): BuildOptions {
  const parsed = parseConfig(config);
  return {
    spec: parsed.spec,
    weights: weightsOf(parsed),
    matrixDtype: (name): Dtype => (name === 'positions' ? 'f32' : 'f16'),
    batch: 1,
    capacity: 64,
    cacheDtype: 'f16',
    capabilities: BASELINE_CAPABILITIES,
  };
}

const two = (config: Config): Config => ({ ...config, num_hidden_layers: 2 });
const CONFIGS: readonly (readonly [string, Config])[] = [
  ['Mistral', two(MISTRAL)],
  ['Qwen2', two(QWEN2)],
  ['Qwen3', two(QWEN3)],
  ['SmolLM3', { ...SMOLLM3, num_hidden_layers: 4 }],
  ['Gemma 3', { ...GEMMA3_TEXT, num_hidden_layers: 6 }],
  ['Gemma 3 that sees', GEMMA3],
  ['Granite', two({ ...GRANITE3, attention_bias: true, mlp_bias: true })],
  ['Nemotron', two(PAPER_TRANSFORMER)],
  ['Nemotron with biases', two({ ...PAPER_TRANSFORMER, attention_bias: true, mlp_bias: true })],
  ['GPT-NeoX', two(PYTHIA)],
  ['GPT-NeoX, one block after the other', two({ ...PYTHIA, use_parallel_residual: false })],
  ['GPT-2', { ...GPT2, n_layer: 2 }],
];

describe.each(CONFIGS)('a recording of %s', (_family, config) => {
  const options = optionsFor(config);
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
  ])('for %s uses every weight, every cache and every table', (_name, { dispatches, externals }, control) => {
    expect([...externals.keys()].sort()).toEqual(names(...control));
    const used = new Set(dispatches.flatMap(({ bindings }) => bindings.map(({ storage }) => storage.name)));
    for (const external of externals.keys()) expect(used).toContain(external);
  });
});

it('layers that see all and layers that see a window have tables of their own', () => {
  expect([...rotaryTables(optionsFor(GEMMA3).spec).values()].map(({ theta }) => theta).sort()).toEqual([1e4, 1e6]);
});

/** Dispatches of each layer, one after another. */
function perLayer(config: Config): number[] {
  const counts: number[] = [];
  for (const { label } of buildDecode(optionsFor(config)).dispatches) {
    const layer = /^layers\.(\d+)\//.exec(label)?.[1];
    if (layer !== undefined) counts[Number(layer)] = (counts[Number(layer)] ?? 0) + 1;
  }
  return counts;
}

describe('a token takes', () => {
  it('4 dispatches for attention and 2 for a feed-forward layer, with biases and factors too', () => {
    for (const config of [MISTRAL, QWEN2, GRANITE3]) expect(perLayer(two(config))).toEqual([4, 2, 4, 2]);
  });

  it('one more for norms of heads, whose queries and keys are two', () => {
    expect(perLayer(two(QWEN3))).toEqual([5, 2, 5, 2]);
  });

  it('one more for a norm behind a block', () => {
    expect(perLayer(two(GEMMA3_TEXT))).toEqual([6, 3, 6, 3]);
  });

  it('one more for a layer norm, and for each of two', () => {
    expect(perLayer(two(PAPER_TRANSFORMER))).toEqual([5, 3, 5, 3]);
    expect(perLayer({ ...GPT2, n_layer: 2 })).toEqual([5, 3, 5, 3]);
    expect(perLayer(two(PYTHIA))).toEqual([5 + 3, 5 + 3]);
  });
});
