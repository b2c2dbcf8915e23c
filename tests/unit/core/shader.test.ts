import type { Capabilities } from '@mambalab/kernels';
import { ArgumentError, BASELINE_CAPABILITIES, DEFAULT_LIMITS, hasRequirement } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { chooseVariant, specialize } from '../../../packages/kernels/src/core/shader.ts';
import { affineShader, twoAxesShader } from './probe_shaders.ts';

const FULL: Capabilities = {
  ...BASELINE_CAPABILITIES,
  features: new Set(['shader-f16', 'subgroups']),
  limits: { ...DEFAULT_LIMITS, maxComputeWorkgroupStorageSize: 32_768 },
  subgroupSize: { min: 16, max: 32 },
};

describe('chooseVariant', () => {
  it('takes the first choices that the device can run', () => {
    expect(chooseVariant(twoAxesShader, FULL, {}, {})).toEqual({ index: 0, choices: { tile: 'large', weight: 'f16' } });
    expect(chooseVariant(twoAxesShader, BASELINE_CAPABILITIES, {}, {}).index).toBe(2);
    const shortOfMemory = { ...FULL, limits: DEFAULT_LIMITS };
    expect(chooseVariant(twoAxesShader, shortOfMemory, {}, {}).choices['tile']).toBe('small');
  });

  it('puts what is fixed before what is forced, and that before its own choice', () => {
    expect(chooseVariant(twoAxesShader, FULL, {}, { tile: 'small', weight: 'f32' }).index).toBe(3);
    expect(chooseVariant(twoAxesShader, FULL, { weight: 'f16' }, { tile: 'small', weight: 'f32' }).index).toBe(2);
  });

  it('ignores forced axes and choices that a shader does not have', () => {
    expect(chooseVariant(affineShader, FULL, {}, { simd: 'quads', tile: 'small' }).choices).toEqual({
      simd: 'subgroups',
    });
  });

  it('refuses a fixed choice that does not exist', () => {
    expect(() => chooseVariant(twoAxesShader, FULL, { tile: 'huge' }, {})).toThrow(
      /no choice 'huge' on its axis 'tile'/,
    );
    expect(() => chooseVariant(twoAxesShader, FULL, { tile: 'huge' }, {})).toThrow(ArgumentError);
  });

  it('refuses a choice that the device cannot run, whether fixed or forced', () => {
    expect(() => chooseVariant(affineShader, BASELINE_CAPABILITIES, { simd: 'subgroups' }, {})).toThrow(
      /needs subgroups/,
    );
    expect(() => chooseVariant(affineShader, BASELINE_CAPABILITIES, {}, { simd: 'subgroups' })).toThrow(ArgumentError);
  });

  it('refuses a shader that needs what the device lacks', () => {
    const needy = { ...affineShader, requires: ['shader-f16'] };
    expect(chooseVariant(needy, FULL, {}, {}).index).toBe(0);
    expect(() => chooseVariant(needy, BASELINE_CAPABILITIES, {}, {})).toThrow(/needs shader-f16/);
  });

  it('refuses a shader that lacks the variant', () => {
    const broken = { ...affineShader, variants: affineShader.variants.slice(0, 1) };
    expect(() => chooseVariant(broken, BASELINE_CAPABILITIES, {}, {})).toThrow(/no variant/);
  });
});

it('hasRequirement knows features, limits and subgroup sizes', () => {
  expect(hasRequirement(FULL, 'shader-f16')).toBe(true);
  expect(hasRequirement(BASELINE_CAPABILITIES, 'shader-f16')).toBe(false);
  expect(hasRequirement(FULL, 'maxComputeWorkgroupStorageSize>=32768')).toBe(true);
  expect(hasRequirement(FULL, 'maxComputeWorkgroupStorageSize>=32769')).toBe(false);
  expect(hasRequirement(FULL, 'maxNothing>=1')).toBe(false);
  expect(hasRequirement(FULL, 'subgroupSize>=16')).toBe(true);
  expect(hasRequirement(FULL, 'subgroupSize>=32')).toBe(false);
  expect(hasRequirement(BASELINE_CAPABILITIES, 'subgroupSize>=4')).toBe(false);
});

it('hasRequirement knows an only subgroup size and the shapes of matrix units', () => {
  const shape = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
  const device: Capabilities = { ...FULL, subgroupSize: { min: 32, max: 32 }, subgroupMatrix: [shape] };
  expect(hasRequirement(device, 'subgroupSize=32')).toBe(true);
  expect(hasRequirement(FULL, 'subgroupSize=32')).toBe(false);
  expect(hasRequirement(FULL, 'subgroupSize=16')).toBe(false);
  expect(hasRequirement(BASELINE_CAPABILITIES, 'subgroupSize=32')).toBe(false);
  expect(hasRequirement(device, 'matrix:f16:16x16x16:f32')).toBe(true);
  expect(hasRequirement(device, 'matrix:f16:16x16x16:f16')).toBe(false);
  expect(hasRequirement(device, 'matrix:f16:16x8x16:f32')).toBe(false);
  expect(hasRequirement(FULL, 'matrix:f16:16x16x16:f32')).toBe(false);
});

describe('specialize', () => {
  it('leaves a text alone without constants', () => {
    expect(specialize(affineShader, 1, {})).toBe(affineShader.variants[1]?.code);
  });

  it('sets a constant once, with the suffix of its type', () => {
    const code = specialize(affineShader, 1, { TILE: 32 });
    expect(code).toContain('const TILE: u32 = 32u;');
    expect(code).not.toContain('= 64u;');
    const float = { ...affineShader, constants: { TILE: { declaration: 'const TILE: u32 = 64u;', type: 'f32' } } };
    expect(specialize(float, 1, { TILE: 0.5 })).toContain('const TILE: f32 = 0.5f;');
  });

  it('writes out the loops that a shader wants so, also one inside another, when asked', () => {
    const code = [
      'const TILE: u32 = 64u;',
      'const HALF: u32 = (TILE + 16u) / 16u - 1u * 1u;',
      'fn f() {',
      '  for (var f = 0u; f < TILE / 16u; f++) {',
      '    for (var g = 0u; g < HALF; g++) { if (g > 0u) { sums[f] += offset * g; } }',
      '  }',
      '  for (var n = 0u; n < 2u; n++) { sums[n] = 0.0; }',
      '}',
    ].join('\n');
    const shader = { ...affineShader, variants: [{ choices: {}, code }], unroll: ['f', 'g'] };
    const written = specialize(shader, 0, { TILE: 32 }, true);
    const sum = (f: number, g: number): string => `{ if (${g}u > 0u) { sums[${f}u] += offset * ${g}u; } }`;
    const tile = (f: number): string => `{\n    ${sum(f, 0)}\n${sum(f, 1)}\n  }`;
    expect(written).toContain(`${tile(0)}\n${tile(1)}\n  for (var n = 0u;`);
    expect(specialize(shader, 0, { TILE: 32 })).toContain('for (var f = 0u;');
  });

  it.each(['params.rows', 'MISSING', '(2u', '2u 3u'])('refuses to write out a loop up to %s', (count) => {
    const code = `for (var f = 0u; f < ${count}; f++) { }`;
    const shader = { ...affineShader, variants: [{ choices: {}, code }], unroll: ['f'] };
    expect(() => specialize(shader, 0, {}, true)).toThrow(/is no constant/);
  });

  it('refuses a constant that the shader does not have', () => {
    expect(() => specialize(affineShader, 1, { WIDTH: 1 })).toThrow(ArgumentError);
  });
});
