import { readFileSync, writeFileSync } from 'node:fs';
import type { Device } from '@mambalab/kernels';
import { afterAll, describe, expect, it } from 'vitest';
import { fixturePath } from './fixtures.ts';
import { errorOf, expectBatchOfTwo, expectGolden, expectSameInParts, goldenOf, loadGolden } from './goldens.ts';

const STORAGES = ['f16', 'bf16', 'q8', 'q4'] as const;
type Storage = (typeof STORAGES)[number];

/**
 * Measured on the software GPU: largest difference of any logit over the largest |logit|. MAMBALAB_MEASURE=1 writes it
 * anew; docs/models/families.md quotes it.
 */
const FILE = fixturePath('models/storage_errors.json');

type Errors = Record<string, Partial<Record<Storage, number>>>;
const readErrors = (): Errors => JSON.parse(readFileSync(FILE, 'utf8')) as Errors;

/**
 * Storages that every run tests beside float32: one of every third family, by turns, since compiling their pipelines is
 * what takes the time. MAMBALAB_LONG=1 tests all of each.
 */
const TURNS: readonly Storage[] = ['f16', 'q8', 'bf16', 'q4'];
const FAMILIES_A_TURN = 3;

/**
 * Declares the tests of tiny checkpoints. What storing matrices in less changes may be twice what was measured.
 *
 * @param exactOnly whether float32 is all that is tested
 */
export function describeGoldens(device: Device, names: readonly string[], exactOnly = false): void {
  const known = readErrors();
  const measured: Errors = {};
  const measuring = process.env['MAMBALAB_MEASURE'] === '1';
  const all = measuring || process.env['MAMBALAB_LONG'] === '1';
  const storages = names.flatMap((name, index) => {
    const turn = index / FAMILIES_A_TURN;
    const tested = exactOnly ? [] : all ? STORAGES : TURNS.filter((_, at) => at === turn % TURNS.length);
    return tested.map((dtype) => ({ name, dtype }));
  });
  afterAll(() => {
    if (!measuring) return;
    const errors = Object.entries({ ...readErrors(), ...measured }).sort(([a], [b]) => (a < b ? -1 : 1));
    writeFileSync(FILE, `${JSON.stringify(Object.fromEntries(errors), null, 2)}\n`);
  });
  describe.each(names)('%s', (name) => {
    it('computes what transformers computes, in any parts, also two at a time', async () => {
      const golden = await goldenOf(name);
      using model = await loadGolden(device, name);
      await expectGolden(model, golden);
      await expectSameInParts(model, golden);
      if (golden.inputIds.length > 1) await expectBatchOfTwo(model, golden);
    });
  });

  if (storages.length === 0) return;
  it.each(storages)('$name stays near it with $dtype weights', async ({ name, dtype }) => {
    const golden = await goldenOf(name);
    using model = await loadGolden(device, name, { dtype });
    const error = await errorOf(model, golden);
    measured[name] = { ...measured[name], [dtype]: Number(error.toPrecision(3)) };
    expect(error).toBeLessThan(measuring ? Infinity : 2 * (known[name]?.[dtype] ?? 0));
  });
}
