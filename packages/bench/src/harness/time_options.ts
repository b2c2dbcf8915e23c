import type { Capabilities } from '@mambalab/kernels';
import type { TimeOptions } from './time_kernel.ts';
import { FULL_TIMING, QUICK_TIMING } from './timing.ts';

/** Memory of a case unless the caller says otherwise. */
const DEFAULT_MEMORY = { hardware: 8 * 2 ** 30, software: 2 ** 29 };

/** What a user may ask of timing. */
export interface TimeRequest {
  readonly quick?: boolean | undefined;
  /** Bytes. */
  readonly memory?: number | undefined;
  /** A fresh one when absent. */
  readonly seed?: number | undefined;
}

/** How cases are timed on a device, unless the user asked for something else. */
export function timeOptions({ software }: Pick<Capabilities, 'software'>, request: TimeRequest = {}): TimeOptions {
  const timing = request.quick === true ? QUICK_TIMING : FULL_TIMING;
  return {
    // A CPU has no clocks to warm up, and a few repetitions of it take long.
    timing: software ? { ...timing, warmUpMilliseconds: 0, budgetMilliseconds: timing.budgetMilliseconds / 3 } : timing,
    memory: request.memory ?? (software ? DEFAULT_MEMORY.software : DEFAULT_MEMORY.hardware),
    seed: request.seed ?? (Date.now() % 2 ** 31) + 1,
  };
}
