import { allocateHybridLayers, ArgumentError } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { readFixture } from '../../support/fixtures.ts';
import { PAPER_HYBRID } from './configs.ts';

const cases = readFixture<readonly [number, number, number, string | null][]>('megatron/allocations.json');

describe('allocateHybridLayers', () => {
  it("gives the layers of the paper's hybrids", () => {
    expect(allocateHybridLayers(56, 0.08, 0.5)).toBe(PAPER_HYBRID.hybrid_override_pattern);
    expect(allocateHybridLayers(48, 0.08, 0.5)).toBe('M-M-M--M-*M-M-M-M--*M-M-M-M-*M--M-M-M-*M-M--M-M-');
  });

  it("agrees with Megatron's rule in Python", () => {
    const fitting = cases.filter(([, , , pattern]) => pattern !== null);
    expect(fitting.length).toBeGreaterThan(300);
    for (const [layers, attention, mlp, pattern] of fitting) {
      expect([layers, attention, mlp, allocateHybridLayers(layers, attention, mlp)]).toEqual([
        layers,
        attention,
        mlp,
        pattern,
      ]);
    }
  });

  it('refuses ratios whose layers, rounded, are more than there are', () => {
    const full = cases.filter(([, , , pattern]) => pattern === null);
    expect(full.length).toBeGreaterThan(0);
    for (const [layers, attention, mlp] of full) {
      expect(() => allocateHybridLayers(layers, attention, mlp)).toThrow(/leave room/);
    }
  });

  it.each([
    [0, 0, 0, /'layers' is 0/],
    [1.5, 0, 0, /'layers' is 1\.5/],
    [Number.NaN, 0, 0, /'layers'/],
    [8, -0.1, 0, /'attentionRatio' is -0\.1/],
    [8, Number.NaN, 0, /'attentionRatio'/],
    [8, 0, 1.1, /'mlpRatio' is 1\.1/],
    [8, 0.6, 0.5, /leave room/],
  ])('refuses %d layers with ratios %d and %d', (layers, attention, mlp, message) => {
    expect(() => allocateHybridLayers(layers, attention, mlp)).toThrow(ArgumentError);
    expect(() => allocateHybridLayers(layers, attention, mlp)).toThrow(message);
  });
});
