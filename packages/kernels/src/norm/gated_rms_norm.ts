import { gatedRmsNormShader } from '../generated/norm/gated_rms_norm.ts';
import { requireArgument } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { multiplySize, productSize } from '../core/size.ts';
import type { RowTileOption } from './rows.ts';
import { planRows, requireNorm, rowsLike } from './rows.ts';

export interface GatedRmsNormInputs {
  /** (..., E) f32; rows may be strided */
  readonly x: TensorRef;
  /** (..., E) f32, the gate before its activation; rows may be strided */
  readonly z: TensorRef;
  /** (E) f32; absent for the weightless form */
  readonly weight?: TensorRef;
}

export interface GatedRmsNormOptions extends RowTileOption {
  /** Slices of E / groups channels that are normalised separately; 1 when absent. */
  readonly groups?: number;
  /** Added to the mean square; 1e-5 when absent. */
  readonly eps?: number;
  /** false (when absent): gate, then normalise, as Mamba-2 does. true: normalise, then gate. */
  readonly normBeforeGate?: boolean;
  /** What makes the gate of z: `silu` when absent. */
  readonly activation?: 'silu' | 'sigmoid';
}

/**
 * Gated root-mean-square normalisation: with `u = x * act(z)`, each of `groups` slices of a row becomes
 * `u / sqrt(mean(u^2) + eps) * weight`; with `normBeforeGate`, `norm(x) * weight * act(z)`.
 *
 * @returns (..., E) f32, contiguous
 * @throws ShapeError if `z` is not like `x`, or `weight` is not (E) f32; ArgumentError if `groups` does not divide E,
 *   `weight` is a part of a tensor, or `eps` is negative
 *
 * Cost: 9 E flops and 12 E bytes a row. Source: arXiv 2405.21060, section 7; `RMSNormGated` of state-spaces/mamba.
 */
export function gatedRmsNorm(
  recording: Recording,
  inputs: GatedRmsNormInputs,
  options: GatedRmsNormOptions = {},
): TensorRef {
  const { x, z, weight } = inputs;
  const { groups = 1, eps = 1e-5, normBeforeGate = false, activation = 'silu' } = options;
  const innerSize = requireNorm('gatedRmsNorm', x, { weight }, eps);
  const zPlace = rowsLike('gatedRmsNorm', 'z', z, x);
  requireArgument(
    Number.isInteger(groups) && groups > 0 && innerSize % groups === 0,
    `gatedRmsNorm: 'groups' is ${groups} for rows of ${innerSize} channels.`,
    'Give a number of groups that divides the channels.',
  );
  requireArgument(
    activation === 'silu' || activation === 'sigmoid',
    `gatedRmsNorm: there is no gate '${String(activation)}'.`,
    'Use silu or sigmoid.',
  );
  const channels = innerSize / groups;
  const slices = multiplySize(productSize(x.shape.slice(0, -1)), groups);
  const { access, places, width, overrides, workgroups } = planRows(
    recording,
    'gatedRmsNorm',
    { channels, rows: slices },
    { x: { offset: x.offset, stride: strideOfRows('x', x, 1) }, z: zPlace },
    options.tile,
  );
  const y = recording.scratch('gatedRmsNorm.y', 'f32', x.shape);
  recording.dispatch(gatedRmsNormShader, {
    bindings: { x, z, weight: weight ?? recording.placeholder(), y },
    params: {
      slices,
      groups,
      width,
      channels,
      xOffset: places.x.offset,
      xStride: places.x.stride,
      zOffset: places.z.offset,
      zStride: places.z.stride,
      yStride: width * groups,
      eps,
    },
    overrides: {
      ...overrides,
      HAS_WEIGHT: weight !== undefined,
      NORM_BEFORE_GATE: normBeforeGate,
      SILU: activation === 'silu',
    },
    choices: { access },
    workgroups,
  });
  return y;
}
