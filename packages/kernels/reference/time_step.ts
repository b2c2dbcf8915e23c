import { softplus } from './activations.ts';
import { Reals } from './arrays.ts';

/** How a raw time step becomes the step of the recurrence. */
export interface TimeStepOptions {
  /** Pass dt + dtBias through softplus; off by default. */
  readonly dtSoftplus?: boolean | undefined;
  /** Clamp to [min, max] after softplus; no clamp by default. */
  readonly dtLimits?: readonly [min: number, max: number] | undefined;
}

/**
 * dt = clamp(softplus(dt + dtBias), min, max), elementwise over rows of dtBias (H heads or E channels).
 *
 * Source: Mamba-2, `dt_bias`, `dt_softplus` and `dt_limit` of `mamba_chunk_scan_combined`.
 */
export function timeSteps(dt: Reals, dtBias: Reals | undefined, options: TimeStepOptions): Reals {
  const { dtSoftplus = false, dtLimits } = options;
  const steps = dt.values.map((raw, index) => {
    const biased = dtBias === undefined ? raw : raw + dtBias.at(index % dtBias.values.length);
    const step = dtSoftplus ? softplus(biased) : biased;
    return dtLimits === undefined ? step : Math.min(Math.max(step, dtLimits[0]), dtLimits[1]);
  });
  return new Reals(steps);
}
