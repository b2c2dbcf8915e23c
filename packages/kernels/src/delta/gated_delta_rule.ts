import { deltaChunkGatesShader } from '../generated/delta/delta_chunk_gates.ts';
import { deltaChunkOutputShader } from '../generated/delta/delta_chunk_output.ts';
import { deltaChunkScoresShader } from '../generated/delta/delta_chunk_scores.ts';
import { deltaChunkSolveShader } from '../generated/delta/delta_chunk_solve.ts';
import { deltaChunkStateShader } from '../generated/delta/delta_chunk_state.ts';
import { requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, loadChoice, multiplySize } from '../core/size.ts';
import type { GatedDeltaOptions, GatedDeltaTensors } from './delta.ts';
import { deltaNumbers, requireDelta } from './delta.ts';

/** `GatedDeltaTensors` with `...` = (B, L). Without `state` the recurrence begins at zeros. */
export type GatedDeltaRuleInputs = GatedDeltaTensors;

export type GatedDeltaRuleOptions = GatedDeltaOptions;

export interface GatedDeltaRuleResult {
  /** (B, L, Hv, V) f32, contiguous */
  readonly y: TensorRef;
  /** (B, Hv, K, V) f32, after the last token: `inputs.state` where it was given */
  readonly state: TensorRef;
}

/** Q, the tokens of a chunk; also the columns that the last pass's workgroups have. */
const CHUNK = 64;

/**
 * The gated delta rule over a whole sequence, in chunks of 64 tokens whose writes are found together by a triangular
 * solve. For each value head, `S = exp(g) S`, then `S = S + beta k (v - S^T k)^T` and `y = scale S^T q`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if Hv is not a multiple of Hk, K or V is above 256
 *   or no multiple of 4, dtBias comes without A, or an option is not finite
 *
 * Cost: per token and value head 6 K V + 2 Q V + Q K flops, and 2 Q K Hk / Hv for the scores, with Q = 64; bytes of
 * q, k, v and y, and between the passes 8 K V / Q + 16 V + 8 K + 16 Q Hk / Hv. Five dispatches in four stages.
 * Source: arXiv 2412.06464, section 3.3.
 */
export function gatedDeltaRule(
  recording: Recording,
  inputs: GatedDeltaRuleInputs,
  options: GatedDeltaRuleOptions = {},
): GatedDeltaRuleResult {
  const kernel = 'gatedDeltaRule';
  const { q, k, v, g, beta, A, dtBias } = inputs;
  const [batch = 1, length = 1] = requireRank(kernel, 'v', v, ['B', 'L', 'Hv', 'V']);
  const { keyHeads, heads, ratio, keyDim, valueDim } = requireDelta(kernel, inputs, [batch, length], ['B', 'L']);
  const { betaFactor, scale, eps } = deltaNumbers(kernel, options, keyDim);
  const chunks = ceilDivSize(length, CHUNK);
  const sequences = multiplySize(batch, chunks);

  const qPlace = { qOffset: q.offset, qStride: strideOfRows('q', q, 2) };
  const kPlace = { kOffset: k.offset, kStride: strideOfRows('k', k, 2) };
  const vPlace = { vOffset: v.offset, vStride: strideOfRows('v', v, 2) };
  const qLoad = [q.offset, qPlace.qStride];
  const kLoad = [k.offset, kPlace.kStride];
  const made = (name: string, ...shape: readonly Size[]): TensorRef =>
    recording.scratch(`${kernel}.${name}`, 'f32', shape);
  const state = inputs.state ?? made('state', batch, heads, keyDim, valueDim);
  const gates = made('gates', batch, chunks, heads, CHUNK, 4);
  const scores = made('scores', batch, chunks, keyHeads, 2, CHUNK, CHUNK);
  const norms = made('norms', batch, chunks, keyHeads, 2, CHUNK);
  const u = made('u', batch, chunks, heads, CHUNK, valueDim);
  const w = made('w', batch, chunks, heads, keyDim, CHUNK);
  const states = made('states', batch, chunks, heads, keyDim, valueDim);
  const y = made('y', batch, length, heads, valueDim);
  const none = recording.placeholder();
  const sizes = { length, chunks, heads, ratio };
  const firstCarried = inputs.state === undefined ? 1 : 0;

  // The first two do not depend on each other and run side by side.
  recording.dispatch(deltaChunkGatesShader, {
    bindings: { g, beta, A: A ?? none, dtBias: dtBias ?? none, gates },
    params: {
      length,
      chunks,
      heads,
      gOffset: g.offset,
      gStride: strideOfRows('g', g, 1),
      betaOffset: beta.offset,
      betaStride: strideOfRows('beta', beta, 1),
      betaFactor,
    },
    overrides: { HAS_A: A !== undefined, HAS_BIAS: dtBias !== undefined, SIGMOID: options.betaSigmoid ?? false },
    workgroups: [heads, sequences],
  });
  recording.dispatch(deltaChunkScoresShader, {
    bindings: { q, k, scores, norms },
    params: {
      length,
      chunks,
      heads: keyHeads,
      keyDim,
      ...qPlace,
      ...kPlace,
      unit: (options.l2Norm ?? false) ? 1 : 0,
      scale,
      eps,
    },
    choices: loadChoice(...qLoad, ...kLoad),
    workgroups: [2, keyHeads, sequences],
  });
  recording.dispatch(deltaChunkSolveShader, {
    bindings: { k, v, gates, norms, scores, u, w },
    params: { ...sizes, keyDim, valueDim, ...kPlace, ...vPlace },
    choices: loadChoice(...kLoad, v.offset, vPlace.vStride),
    workgroups: [heads, sequences],
  });
  const quads = columnQuads(recording, keyDim);
  recording.dispatch(deltaChunkStateShader, {
    bindings: { k, gates, norms, w, u, states, state },
    params: {
      ...sizes,
      firstCarried,
      valueDim,
      ...kPlace,
      stateOffset: state.offset,
      stateStride: strideOfRows('state', state, 3),
    },
    overrides: { WORKGROUP_SIZE: 32 * quads },
    constants: { QUADS: quads, KEY_DIM: keyDim },
    choices: loadChoice(...kLoad),
    workgroups: [Math.ceil(valueDim / (4 * quads)), heads, batch],
  });
  recording.dispatch(deltaChunkOutputShader, {
    bindings: { q, gates, norms, scores, states, r: u, y },
    params: { ...sizes, keyDim, valueDim, ...qPlace, firstCarried },
    choices: loadChoice(...qLoad),
    workgroups: [Math.ceil(valueDim / CHUNK), heads, sequences],
  });
  return { y, state };
}

/** Columns of V, in fours, that a workgroup of the state pass has: its state and one chunk's writes must fit. */
function columnQuads(recording: Recording, keyDim: number): number {
  const wide = recording.choice(deltaChunkStateShader, 'memory') === 'large' ? 8 : 4;
  return keyDim > 128 ? wide / 2 : wide;
}
