// Longer than most host halves: models route in several ways, and each has its checks.
import { moeRouteShader } from '../generated/moe/moe_route.ts';
import { requireArgument, requireDtype, requireRank, requireStatic } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import { MATVEC_MAX_ROWS, requireVector } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { flatGrid, maximumSize } from '../core/size.ts';
import type { MoeRouting } from './routing.ts';
import { MOE_LIMITS } from './routing.ts';
import { moeSort } from './moe_sort.ts';

export interface MoeRouteInputs {
  /** (M, E) f32, E up to 512; rows may be strided, M may be a named size */
  readonly logits: TensorRef;
  /** (E) f32, added to the scores for the choice alone, not to the weights */
  readonly correctionBias?: TensorRef | undefined;
}

export interface MoeRouteOptions {
  /** k, experts of a token: 1 to 32 */
  readonly topK: number;
  /** How logits become scores; 'softmax' when absent. */
  readonly scoring?: 'softmax' | 'sigmoid' | undefined;
  /** Scores of all experts first, or softmax over the chosen ones only; 'scoreThenTopK' when absent. */
  readonly order?: 'scoreThenTopK' | 'topKThenSoftmax' | undefined;
  /** Divide the weights of a token by their sum. */
  readonly normalize?: boolean | undefined;
  /** Added to that sum; 0 when absent. */
  readonly normalizeEps?: number | undefined;
  /** Multiplies the weights; 1 when absent. */
  readonly scale?: number | undefined;
  /** Equal parts of the experts, of which `topGroups` may be chosen from; 1 when absent. */
  readonly groups?: number | undefined;
  readonly topGroups?: number | undefined;
  /** Also sort the pairs by expert, for `expertMatmul`; true when absent and M may exceed 8. */
  readonly sorted?: boolean | undefined;
}

/** Experts that are ranked together where there are no groups. */
const BLOCK = 64;

const positive = (value: number): boolean => Number.isInteger(value) && value >= 1;

/**
 * Chooses the experts of each token: those with the k largest scores, or scores plus bias; of equal ones the first. Their
 * weights are the scores, as options say divided by their sum and scaled; or softmax over the chosen logits. With
 * groups, only experts of the `topGroups` best are chosen, where a group counts as the sum of its two best.
 *
 * Infinite logits count as the largest number of their sign, NaN as the smallest.
 *
 * @returns indices (M, k) u32, the best first, and weights (M, k) f32; sorted, also order and offsets (see `moeSort`)
 * @throws ShapeError if a shape or dtype is not as above; ArgumentError if there are fewer experts to choose from than k,
 *   groups are not equal or have one expert, or softmax over the chosen has a bias, groups or another scoring
 *
 * Cost: 64 E comparisons a token and (E k / 64)^2 more. Source: arXiv 2401.04088; groups and bias: arXiv 2412.19437.
 */
export function moeRoute(recording: Recording, inputs: MoeRouteInputs, options: MoeRouteOptions): MoeRouting {
  const { logits, correctionBias } = inputs;
  requireDtype('moeRoute', 'logits', logits, 'f32');
  const [tokens = 1, width] = requireRank('moeRoute', 'logits', logits, ['M', 'E']);
  const experts = requireStatic('moeRoute', 'E', width);
  if (experts > MOE_LIMITS.experts) {
    throw new ShapeError(`moeRoute: E may be up to ${MOE_LIMITS.experts}; found ${experts}.`, 'Use fewer experts.');
  }
  requireVector('moeRoute', 'correctionBias', correctionBias, experts);
  const { topK, scoring = 'softmax', order = 'scoreThenTopK', groups = 1, topGroups = groups } = options;
  requireChoice(experts, { topK, groups, topGroups });
  const scoringNumber = requireScoring(scoring, order, correctionBias !== undefined || groups > 1);
  const { normalize = false, normalizeEps = 0, scale = 1 } = options;
  requireArgument(
    Number.isFinite(scale) && Number.isFinite(normalizeEps) && normalizeEps >= 0,
    `moeRoute: 'scale' must be finite and 'normalizeEps' not negative; found ${scale} and ${normalizeEps}.`,
    'Take them from the configuration of the model.',
  );

  const limited = topGroups < groups;
  const block = limited ? experts / groups : Math.min(experts, BLOCK);
  const blocks = Math.ceil(experts / block);
  const indices = recording.scratch('moeRoute.indices', 'u32', [tokens, topK]);
  const weights = recording.scratch('moeRoute.weights', 'f32', [tokens, topK]);
  recording.dispatch(moeRouteShader, {
    bindings: { logits, bias: correctionBias ?? recording.placeholder(), indices, weights },
    params: {
      tokens,
      logitsOffset: logits.offset,
      logitsStride: strideOfRows('logits', logits, 1),
      biasOffset: correctionBias?.offset ?? 0,
      eps: normalizeEps,
      scale,
    },
    overrides: {
      WORKGROUP_SIZE: recording.capabilities.software ? 4 : ([32, 64, 128].find((size) => size >= experts) ?? 256),
      EXPERTS: experts,
      TOP_K: topK,
      BLOCK: block,
      BLOCKS: blocks,
      CANDIDATES: Math.min(block, limited ? Math.max(topK, 2) : topK),
      TOP_BLOCKS: limited ? topGroups : blocks,
      SCORING: scoringNumber,
      NORMALIZE: normalize,
      HAS_BIAS: correctionBias !== undefined,
    },
    workgroups: flatGrid(tokens),
  });
  const { sorted = maximumSize(tokens) > MATVEC_MAX_ROWS } = options;
  return { indices, weights, ...(sorted ? moeSort(recording, { indices }, { experts }) : {}) };
}

/** @throws ArgumentError unless k experts can be chosen from that many groups */
function requireChoice(
  experts: number,
  { topK, groups, topGroups }: { readonly topK: number; readonly groups: number; readonly topGroups: number },
): void {
  requireArgument(
    positive(groups) && positive(topGroups) && topGroups <= groups && experts % groups === 0,
    `moeRoute: ${topGroups} of ${groups} groups cannot be chosen of ${experts} experts.`,
    "'groups' must divide the number of experts, and 'topGroups' be from 1 to 'groups'.",
  );
  requireArgument(
    topGroups === groups || experts / groups >= 2,
    'moeRoute: a group counts as the sum of its two best experts; found groups of one.',
    "Leave 'groups' out.",
  );
  const most = Math.min(MOE_LIMITS.topK, (experts / groups) * topGroups);
  requireArgument(
    positive(topK) && topK <= most,
    `moeRoute: 'topK' must be a whole number from 1 to ${most}; found ${topK}.`,
    'It cannot exceed the experts of the chosen groups.',
  );
}

/** The override SCORING. @throws ArgumentError for a combination that no model has */
function requireScoring(scoring: string, order: string, adjusted: boolean): number {
  requireArgument(
    (scoring === 'softmax' || scoring === 'sigmoid') && (order === 'scoreThenTopK' || order === 'topKThenSoftmax'),
    `moeRoute: there is no scoring '${scoring}' with the order '${order}'.`,
    "Use 'softmax' or 'sigmoid', and 'scoreThenTopK' or 'topKThenSoftmax'.",
  );
  if (order === 'scoreThenTopK') return scoring === 'softmax' ? 0 : 1;
  requireArgument(
    scoring === 'softmax' && !adjusted,
    "moeRoute: 'topKThenSoftmax' chooses by logits, without sigmoid, bias or groups.",
    "Use 'scoreThenTopK' with them.",
  );
  return 2;
}
