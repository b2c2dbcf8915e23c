import { ArgumentError, BASELINE_CAPABILITIES, ShapeError, UnsupportedModelError } from '@mambalab/kernels';
import type { BuildOptions } from './graph/build.ts';
import { buildDecode, buildPrefill } from './graph/build.ts';
import type { CacheDtype } from './graph/names.ts';
import { MODERATE_PROMPT } from './load_runtime.ts';
import type { ParsedModel } from './spec/weight_spec.ts';
import type { PlannedWeight } from './weights/plan.ts';

/**
 * Kernels have bounds of their own, such as the width of a head. Recordings meet them without a GPU.
 *
 * @throws UnsupportedModelError if no kernel computes a layer of this model
 */
export function checkKernels({ spec }: ParsedModel, plan: readonly PlannedWeight[], cacheDtype: CacheDtype): void {
  const dtypes = new Map(plan.map((weight) => [weight.spec.name, weight.dtype]));
  const options: BuildOptions = {
    spec,
    weights: plan.map((weight) => weight.spec),
    matrixDtype: (name) => dtypes.get(name) ?? 'f32',
    batch: 1,
    capacity: MODERATE_PROMPT,
    cacheDtype,
    capabilities: BASELINE_CAPABILITIES,
  };
  try {
    buildDecode(options);
    buildPrefill(options, MODERATE_PROMPT, 'last');
  } catch (cause) {
    if (!(cause instanceof ArgumentError || cause instanceof ShapeError)) throw cause;
    throw new UnsupportedModelError(
      `No kernel computes this ${spec.family} model: ${cause.message}`,
      'Check that config.json belongs to this model.',
      { cause },
    );
  }
}
