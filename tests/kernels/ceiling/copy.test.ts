import { ArgumentError, ceilingCopy, COPY_TILE, run } from '@mambalab/kernels';
import { ceilingCopy as reference } from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();

it.each([1, 5])('copies every value of %i tiles', async (tiles) => {
  const x = normalTensor(new Random(tiles), [tiles * COPY_TILE]);
  const y = await run(device, ceilingCopy, { x }, {}, { poison: true });
  expectClose(y.data, reference({ x: x.data }), { rtol: 0, atol: 1e-38 });
});

it('refuses a part of a tile', async () => {
  const x = normalTensor(new Random(1), [COPY_TILE + 4]);
  await expect(run(device, ceilingCopy, { x }, {})).rejects.toThrow(ArgumentError);
});
