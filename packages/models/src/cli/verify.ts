import { join } from 'node:path';
import { loadModel, openFolder } from '../node.ts';
import type { WeightDtype } from '../surface.ts';
import { GOLDEN_TOLERANCE, openSafetensors, readGolden, WeightFormatError } from '../surface.ts';

export interface VerifyFlags {
  readonly tolerance?: number;
  readonly json?: boolean;
  readonly dtype: WeightDtype;
}

const GOLDEN_FILE = 'golden.safetensors';

/** `mambalab verify FOLDER`: exit code 1 when the comparison fails. */
export async function verify(path: string, flags: VerifyFlags): Promise<void> {
  const folder = await openFolder(path);
  try {
    const file = await folder.file(GOLDEN_FILE);
    if (file === undefined) {
      throw new WeightFormatError(
        `There is no ${join(path, GOLDEN_FILE)}.`,
        'Store input_ids, logits and greedy of another implementation there.',
      );
    }
    const golden = await readGolden(await openSafetensors(file));
    // Exact caches: what is verified is weights and kernels, not the rounding of a cache of half the size.
    await using model = await loadModel(path, { dtype: flags.dtype, cacheDtype: 'f32' });
    const tolerance = flags.tolerance ?? GOLDEN_TOLERANCE;
    const result = await model.verify(golden, tolerance);
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify({ family: model.spec.family, tolerance, ...result })}\n`);
    } else {
      process.stdout.write(
        `${model.spec.family}: ${result.passed ? 'passed' : 'FAILED'}; largest error ${result.maxAbsError.toExponential(2)}` +
          ` = ${result.maxRelError.toExponential(2)} of the largest logit (allowed ${tolerance}),` +
          ` greedy tokens equal: ${(result.greedyAgreement * 100).toFixed(1)} %\n`,
      );
    }
    if (!result.passed) process.exitCode = 1;
  } finally {
    await folder.dispose();
  }
}
