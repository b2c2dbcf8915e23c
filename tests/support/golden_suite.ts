import type { Device } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { errorOf, expectBatchOfTwo, expectGolden, expectSameInParts, goldenOf, loadGolden } from './goldens.ts';

/** What storing matrices in less may change: largest difference of any logit over the largest |logit|. */
export interface StorageErrors {
  readonly f16: number;
  readonly bf16: number;
  readonly q8: number;
  readonly q4: number;
}

/**
 * Declares the tests of one tiny checkpoint of a family.
 *
 * @param bounds twice what was measured, for the types that are tested
 */
export function describeGolden(device: Device, name: string, bounds: Partial<StorageErrors>): void {
  describe.each([name])('%s', () => {
    it('computes what transformers computes, in any parts, also two at a time', async () => {
      const golden = await goldenOf(name);
      using model = await loadGolden(device, name);
      await expectGolden(model, golden);
      await expectSameInParts(model, golden);
      if (golden.inputIds.length > 1) await expectBatchOfTwo(model, golden);
    });

    const dtypes = (['f16', 'bf16', 'q8', 'q4'] as const).filter((dtype) => bounds[dtype] !== undefined);
    it.each(dtypes)('stays near it with %s weights', async (dtype) => {
      const golden = await goldenOf(name);
      using model = await loadGolden(device, name, { dtype });
      expect(await errorOf(model, golden)).toBeLessThan(bounds[dtype] ?? 0);
    });
  });
}
