import { summarize } from '@mambalab/bench';
import { describe, expect, it } from 'vitest';
import type { MeasurePasses } from '../../../packages/bench/src/harness/timing.ts';
import { samplePasses } from '../../../packages/bench/src/harness/timing.ts';

const options = { samples: 9, passMilliseconds: 2, warmUpMilliseconds: 0, budgetMilliseconds: 1000 };

/** A device on which one repetition takes `cost` us, whose clock counts in `quantum` ns, with delays before some passes. */
function fakeDevice(cost: number, quantum = 1, delays: readonly number[] = []): MeasurePasses {
  let now = 12_345;
  let passes = 0;
  const read = (): number => Math.floor((now * 1000) / quantum) * (quantum / 1000);
  return (repetitions, count) => {
    const microseconds = Array.from({ length: count }, () => {
      const begin = read();
      now += repetitions * cost + (delays[passes++] ?? 0);
      return read() - begin;
    });
    return Promise.resolve({ microseconds, quantum });
  };
}

describe('samplePasses', () => {
  it('repeats short work until a pass is long enough', async () => {
    const { microseconds, repetitions } = await samplePasses(fakeDevice(2), 16_384, options);
    expect(repetitions).toBeGreaterThanOrEqual(1000);
    expect(summarize(microseconds).median).toBeCloseTo(2);
    expect(microseconds.length).toBe(options.samples);
  });

  it('makes passes of many units of a coarse clock', async () => {
    const { microseconds } = await samplePasses(fakeDevice(3, 65_536), 16_384, options);
    expect(Math.abs(summarize(microseconds).median / 3 - 1)).toBeLessThan(0.03);
  });

  it.each([
    [[50_000]],
    [[0, 50_000]],
    [[50_000, 30_000]],
    [[50_000, 50_000, 50_000]],
    [[0, 0, 9000, 9000, 9000, 9000]],
  ])('is not misled by delays of %j us', async (delays) => {
    for (const quantum of [1, 65_536]) {
      const { microseconds } = await samplePasses(fakeDevice(3, quantum, delays), 16_384, options);
      expect(Math.abs(summarize(microseconds).median / 3 - 1)).toBeLessThan(0.05);
    }
  });

  it('does not repeat long work, and takes few samples of it', async () => {
    const { microseconds, repetitions } = await samplePasses(fakeDevice(800_000), 16_384, options);
    expect(repetitions).toBe(1);
    expect(microseconds).toEqual([800_000, 800_000, 800_000].map((value) => expect.closeTo(value)));
  });

  it('keeps to the repetitions that a pass may hold', async () => {
    const { repetitions } = await samplePasses(fakeDevice(1), 10, options);
    expect(repetitions).toBe(10);
  });

  it('refuses to call nothing a time', async () => {
    await expect(samplePasses(fakeDevice(0.001, 65_536), 10, options)).rejects.toThrow(RangeError);
  });
});
