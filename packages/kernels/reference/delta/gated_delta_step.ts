import {
  gatedDeltaRule,
  type GatedDeltaRuleInputs,
  type GatedDeltaRuleOptions,
  type GatedDeltaRuleResult,
} from './gated_delta_rule.ts';

/** As `GatedDeltaRuleOptions`, for one token. */
export type GatedDeltaStepOptions = Omit<GatedDeltaRuleOptions, 'length'>;

/**
 * One token of `gatedDeltaRule`.
 *
 * Shapes: q and k (B, Hk, K), v and y (B, Hv, V), g and beta (B, Hv), A and dtBias (Hv), state (B, Hv, K, V).
 */
export function gatedDeltaStep(inputs: GatedDeltaRuleInputs, options: GatedDeltaStepOptions): GatedDeltaRuleResult {
  return gatedDeltaRule(inputs, { ...options, length: 1 });
}
