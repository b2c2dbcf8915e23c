import { expect, it } from 'vitest';
import { fuzz } from '../../support/fuzz/run.ts';
import { fuzzTargets } from '../../support/fuzz/targets.ts';

// The same with 100,000 inputs each: npm run fuzz

/** Inputs of each reader; `MAMBALAB_FUZZ=INPUTS,SEED` names others. */
const [INPUTS = 2000, SEED = 1] = (process.env['MAMBALAB_FUZZ'] ?? '').split(',').filter(Boolean).map(Number);

it.each(await fuzzTargets())('$name: what is changed is refused, or loads', { timeout: 3_600_000 }, async (target) => {
  const report = await fuzz(target, INPUTS, SEED);
  if (INPUTS > 2000) console.log(JSON.stringify(report));
  expect(report.inputs).toBe(INPUTS);
});
