import { readFileSync } from 'node:fs';
import type { Dtype, Recording } from '@mambalab/kernels';
import { BASELINE_CAPABILITIES } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { BuildOptions } from '../../../packages/models/src/graph/build.ts';
import { buildDecode, buildPrefill } from '../../../packages/models/src/graph/build.ts';
import { rotaryTables, stateTensors } from '../../../packages/models/src/graph/names.ts';
import { weightsOf } from '../../../packages/models/src/spec/weight_spec.ts';
import { parseJson } from '../../../packages/models/src/weights/json.ts';
import { fixturePath } from '../../support/fixtures.ts';
import type { Config } from './configs.ts';
import { NEMOTRON_H, without } from './configs.ts';
import { BAMBA, FALCON_H1, FALCON_MAMBA, GRANITE, GRANITE_EXPERTS, JAMBA, MAMBA, NEMOTRON_3 } from './mamba_configs.ts';

function optionsFor(config: unknown): BuildOptions {
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

const FAMILIES = ['bamba', 'granitemoehybrid', 'jamba', 'mamba2', 'nemotron_h'];
const VARIANTS = ['mamba_ssm', 'mamba2_ssm', 'falcon_h1_biased', 'falcon_h1_gated', ...FAMILIES];

describe.each(['mamba', 'falcon_mamba', 'falcon_h1', ...FAMILIES, ...VARIANTS.map((name) => `variants/${name}`)])(
  'a recording of %s',
  (name) => {
    const file = fixturePath(`models/${name}/config.json`);
    const options = optionsFor(parseJson(readFileSync(file, 'utf8'), file));
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
  },
);

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
  const layers = (config: Config, count: number): Config => ({ ...config, num_hidden_layers: count });

  it('6 dispatches for Mamba; norms of dt, B and C are 3 more, and so is joining the last two', () => {
    expect(perLayer(layers(MAMBA, 1))).toEqual([6]);
    expect(perLayer(layers(FALCON_MAMBA, 1))).toEqual([6 + 3 + 1]);
  });

  it('5 for experts: the norm that router and experts read, router, choice, and two products', () => {
    expect(perLayer(layers(JAMBA, 2))).toEqual([10, 2, 10, 5]);
  });

  it('3 for Mamba-2 behind a gated norm, also with a factor of what it adds', () => {
    expect(perLayer(layers({ ...BAMBA, attn_layer_indices: [1] }, 2))).toEqual([3, 2, 4, 2]);
    expect(perLayer({ ...layers(GRANITE, 1), layer_types: ['mamba'] })).toEqual([3, 2]);
  });

  it('more where experts stand beside a layer of every token', () => {
    expect(perLayer({ ...layers(GRANITE_EXPERTS, 1), layer_types: ['mamba'] })).toEqual([3, 7]);
    expect(perLayer({ ...without(NEMOTRON_3, 'num_hidden_layers'), hybrid_override_pattern: 'ME' })).toEqual([3, 7]);
    const latent = { ...without(NEMOTRON_3, 'num_hidden_layers'), hybrid_override_pattern: 'E', moe_latent_size: 64 };
    expect(perLayer(latent)).toEqual([9]);
  });

  it('one norm, then both of Mamba-2 and attention in Falcon-H1', () => {
    expect(perLayer(layers(FALCON_H1, 1))).toEqual([1 + 4 + 4, 2]);
    const gated = { ...FALCON_H1, mamba_rms_norm: true };
    expect(perLayer(layers(gated, 1))).toEqual([1 + 3 + 4, 2]);
    expect(perLayer(layers({ ...gated, mamba_norm_before_gate: true }, 1))).toEqual([1 + 5 + 4, 2]);
  });
});

it('prompts of all of them fit kernels', () => {
  for (const config of [
    MAMBA,
    FALCON_MAMBA,
    JAMBA,
    BAMBA,
    GRANITE,
    GRANITE_EXPERTS,
    FALCON_H1,
    NEMOTRON_3,
    NEMOTRON_H,
  ]) {
    const { layers } = optionsFor(config).spec;
    expect(buildPrefill(optionsFor(config), 512, 'last').dispatches.length).toBeGreaterThan(layers.length);
  }
});
