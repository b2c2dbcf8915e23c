import { expect, it } from 'vitest';
import { openTestDevice } from '../support/gpu.ts';
import { expectGolden, goldenOf, loadGolden } from '../support/goldens.ts';

const device = await openTestDevice();

// What the device chooses is tested for every family; kernels have tests of their own for each variant.
it.each(['mamba2', 'llama', 'nemotron_h'])(
  '%s computes what transformers computes without subgroups',
  async (family) => {
    using model = await loadGolden(device, family, { force: { simd: 'baseline' } });
    await expectGolden(model, await goldenOf(family));
  },
);

it('a vocabulary in several tensors gives the same', async () => {
  // Half of the 128 rows of 32 values, which is more than any other matrix of this model takes.
  using model = await loadGolden(device, 'llama', { largestBinding: 64 * 32 * 4 });
  const names = [...model.runtime.constants.keys()];
  expect(names.filter((name) => /embedding|head/.test(name))).toEqual([
    'embedding.part0',
    'embedding.part1',
    'head.part0',
    'head.part1',
  ]);
  await expectGolden(model, await goldenOf('llama'));
});

it('a wrong golden does not pass', async () => {
  const golden = await goldenOf('mamba2');
  using model = await loadGolden(device, 'mamba2');
  const shifted = { ...golden, logits: golden.logits.map((row) => row.map((value) => value + 0.01)) };
  expect((await model.verify(shifted)).passed).toBe(false);
  const other = { ...golden, greedy: golden.greedy.map((row) => row.map((token) => (token + 1) % 128)) };
  expect((await model.verify(other)).passed).toBe(false);
});
