import { paper } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { parseTokens } from '../../../packages/bench/src/cli/context_options.ts';
import {
  ablationConfig,
  architectureConfig,
  attentionPercent,
  SCALES,
  withLayers,
} from '../../../packages/bench/src/context/family.ts';
import type { FamilyShape } from '../../../packages/bench/src/context/family.ts';
import { ARCHITECTURES } from '../../../packages/bench/src/context/results.ts';
import { chooseScale, weightsBytesOf } from '../../../packages/bench/src/context/scale.ts';
import { crossing } from '../../../packages/bench/src/context/speedups.ts';

function shapeOf(scale: string): FamilyShape {
  const shape = SCALES[scale];
  if (shape === undefined) throw new Error(`There is no scale ${scale}.`);
  return shape;
}

describe('families', () => {
  it("are the paper's at its size", () => {
    const shape = shapeOf('8b');
    expect(architectureConfig('mamba', shape)).toEqual(paper.mamba8b);
    expect(architectureConfig('mamba2', shape)).toEqual(paper.mamba2_8b);
    expect(architectureConfig('hybrid', shape)).toEqual(paper.hybrid8b);
    expect(architectureConfig('transformer', shape)).toEqual(paper.transformer8b);
    expect(architectureConfig('transformer-gqa', shape)).toEqual({ ...paper.transformer8b, num_key_value_heads: 8 });
  });

  it('have about as many parameters in every architecture, at every scale', () => {
    for (const shape of Object.values(SCALES)) {
      const bytes = ARCHITECTURES.map((name) => weightsBytesOf(architectureConfig(name, shape), 'f16'));
      expect(Math.max(...bytes) / Math.min(...bytes)).toBeLessThan(1.4);
    }
  });

  it('replace Mamba-2 by attention at fixed depth', () => {
    const patternOf = (share: number): string =>
      String(ablationConfig(share, shapeOf('8b'))['hybrid_override_pattern']);
    expect(patternOf(0)).not.toContain('*');
    expect(patternOf(1)).not.toContain('M');
    expect(patternOf(1 / 7)).toBe(paper.hybrid8b['hybrid_override_pattern']);
    for (const share of [0, 0.25, 0.5, 1]) {
      expect(patternOf(share)).toHaveLength(56);
      expect(attentionPercent(patternOf(share))).toBeCloseTo(100 * share);
    }
    expect(withLayers(shapeOf('8b'), 0.25).layers).toBe(14);
  });

  it('are chosen by memory and by speed', () => {
    const ceilings = {
      readGigabytesPerSecond: 4400,
      copyGigabytesPerSecond: 1,
      fmaTeraflops: 1,
      dispatchMicroseconds: 1,
    };
    expect(chooseScale(139 * 2 ** 30, ceilings, 'f16', false)).toMatchObject({ scale: '8b' });
    expect(chooseScale(16 * 2 ** 30, ceilings, 'f16', false)).toMatchObject({ scale: '3b' });
    expect(chooseScale(139 * 2 ** 30, { ...ceilings, readGigabytesPerSecond: 100 }, 'f16', false)).toMatchObject({
      scale: '800m',
    });
    expect(chooseScale(1, ceilings, 'f16', false)).toMatchObject({ scale: 'tiny', reason: 'the smallest' });
  });
});

describe('crossings', () => {
  it('lie where a ratio passes 1 for good, between two contexts by their logarithms', () => {
    expect(
      crossing([
        [1024, 0.5],
        [4096, 2],
      ]),
    ).toEqual({ at: 'context', tokens: 2048 });
    expect(
      crossing([
        [1024, 1.1],
        [4096, 0.5],
        [16_384, 2],
      ]),
    ).toEqual({ at: 'context', tokens: 8192 });
    expect(
      crossing([
        [1024, 1.1],
        [4096, 2],
      ]),
    ).toEqual({ at: 'always' });
    expect(
      crossing([
        [1024, 1.1],
        [4096, 0.9],
      ]),
    ).toEqual({ at: 'never' });
  });
});

it('reads lists of tokens', () => {
  expect(parseTokens('128k,1k, 4096')).toEqual([1024, 4096, 131_072]);
  expect(parseTokens('1K,1024')).toEqual([1024]);
  for (const wrong of ['', 'x', '1,,2', '0', '-1', '1.5k']) expect(() => parseTokens(wrong)).toThrow('whole number');
});
