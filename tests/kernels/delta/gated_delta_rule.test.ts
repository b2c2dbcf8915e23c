import type { GatedDeltaRuleOptions, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  gatedDeltaRule,
  gatedDeltaStep,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
  stagesOf,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, nmse, Random } from '../../support/numbers.ts';
import type { Drawn, Inputs, Sizes, Values } from './support.ts';
import { draw, expectedOf, values } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Sums of at most 256 products of values near 1, each rounded to 2^-24, through a triangular system whose inverse has
// entries near 1, and through decays: errors of some 1e-6, which a state carries on. Wrong terms are of order 1.
const TOLERANCE = { rtol: 1e-4, atol: 1e-4 };
const NMSE = 1e-10;

const small: Sizes = { batch: 1, length: 70, keyHeads: 1, valueHeads: 2, keyDim: 16, valueDim: 8 };

async function expectRule(
  sizes: Sizes,
  drawn: Drawn = {},
  options: GatedDeltaRuleOptions = {},
  force: { [axis: string]: string } = {},
): Promise<void> {
  const { state: before, ...rest } = draw(sizes, drawn);
  const inputs: Inputs = drawn.state === false ? rest : { ...rest, state: before };
  const result = await run(device, gatedDeltaRule, inputs, options, { force, executor });
  const expected = expectedOf(inputs, sizes, options);
  for (const name of ['y', 'state'] as const) {
    expectClose(result[name].data, expected[name], TOLERANCE);
    expect(nmse(result[name].data, expected[name])).toBeLessThan(NMSE);
  }
}

describe('gatedDeltaRule', () => {
  it.each([1, 63, 64, 65, 197])('%i tokens', async (length) => {
    const sizes = { ...small, batch: length < 100 ? 2 : 1, length };
    await expectRule(sizes, { state: length % 2 === 0 });
    await expectRule(sizes, { decays: [-0.02, 0], state: length % 2 === 1 }, { l2Norm: true });
  });
});
