import { rmsNorm, run, ShapeError } from '@mambalab/kernels';
import { rmsNorm as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const TOLERANCE = { rtol: 2e-6, atol: 2e-6 };

describe.each(simdChoices(device))('rmsNorm %o', (force) => {
  it.each([
    [1, 1],
    [3, 32],
    [2, 255],
    [2, 256],
    [5, 257],
    [4, 1000],
    [7, 2560],
  ])('normalises %i rows of %i', async (rows, width) => {
    const random = new Random(rows * 10_007 + width);
    const x = normalTensor(random, [rows, width], 3);
    const weight = normalTensor(random, [width]);
    for (const [given, weightOffset] of [
      [weight, 0],
      [weight, 1],
      [undefined, 0],
    ] as const) {
      const inputs = given === undefined ? { x } : { x, weight: given };
      const y = await run(device, rmsNorm, inputs, { eps: 1e-5, weightOffset }, { force, poison: true });
      const expected = reference(
        { x: x.data, ...(given === undefined ? {} : { weight: given.data }) },
        { rows, width, eps: 1e-5, weightOffset },
      );
      expectClose(y.data, expected, TOLERANCE);
      expect(y.shape).toEqual([rows, width]);
    }
  });
});

it('refuses a weight of another width', async () => {
  const random = new Random(1);
  const inputs = { x: normalTensor(random, [2, 8]), weight: normalTensor(random, [9]) };
  await expect(run(device, rmsNorm, inputs, {})).rejects.toThrow(ShapeError);
});
