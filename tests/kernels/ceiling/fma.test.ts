import { ArgumentError, ceilingFma, run } from '@mambalab/kernels';
import { ceilingFma as reference } from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();

it.each([
  [1, 4],
  [255, 8],
  [256, 64],
  [257, 64],
])('iterates %i values %i times', async (count, iterations) => {
  const x = normalTensor(new Random(count), [count]);
  const options = { iterations, scale: 0.97, shift: 0.03 };
  const y = await run(device, ceilingFma, { x }, options, { poison: true });
  // Errors of each step shrink with the scale: about 30 roundings of 32 values remain.
  expectClose(y.data, reference({ x: x.data }, options), { rtol: 1e-5, atol: 1e-4 });
});

it('refuses a count of iterations that leaves a rest', async () => {
  const x = normalTensor(new Random(1), [8]);
  await expect(run(device, ceilingFma, { x }, { iterations: 6, scale: 1, shift: 0 })).rejects.toThrow(ArgumentError);
});
