import {
  selectiveScan,
  type SelectiveScanInputs,
  type SelectiveScanOptions,
  type SelectiveScanResult,
} from './selective_scan.ts';

/** As `SelectiveScanOptions`, for one token. */
export type SelectiveScanStepOptions = Omit<SelectiveScanOptions, 'length'>;

/**
 * One token of `selectiveScan`: h = exp(dt A) h + dt B u, y = (C h + D u) * silu(z).
 *
 * Shapes: u, dt, z and y (B, E), A (E, N), B and C (B, G, N), D and dtBias (E), state (B, E, N).
 * Source: `selective_state_update_ref`.
 */
export function selectiveScanStep(inputs: SelectiveScanInputs, options: SelectiveScanStepOptions): SelectiveScanResult {
  return selectiveScan(inputs, { ...options, length: 1 });
}
