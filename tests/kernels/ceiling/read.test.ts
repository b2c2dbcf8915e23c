import { ArgumentError, ceilingRead, READ_TILE, run } from '@mambalab/kernels';
import { ceilingRead as reference } from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();

it.each([1, 3])('adds up every value of %i tiles', async (tiles) => {
  const x = normalTensor(new Random(tiles), [tiles * READ_TILE]);
  const y = await run(device, ceilingRead, { x }, {}, { poison: true });
  // 128 values of unit size are added in f32.
  expectClose(y.data, reference({ x: x.data }), { rtol: 1e-5, atol: 1e-5 });
});

it('refuses a part of a tile', async () => {
  const x = normalTensor(new Random(1), [READ_TILE + 4]);
  await expect(run(device, ceilingRead, { x }, {})).rejects.toThrow(ArgumentError);
});
