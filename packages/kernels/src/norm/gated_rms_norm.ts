import { gatedRmsNormShader } from '../generated/norm/gated_rms_norm.ts';
import { requireArgument, requireDtype, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { flatGrid, multiplySize, productSize } from '../core/size.ts';

export interface GatedRmsNormInputs {
  /** (..., E) f32; rows may be strided */
  readonly x: TensorRef;
  /** (..., E) f32, the gate before its activation; rows may be strided */
  readonly z: TensorRef;
  /** (E) f32 */
  readonly weight: TensorRef;
}

export interface GatedRmsNormOptions {
  /** Slices of E / groups channels that are normalised separately; 1 when absent. */
  readonly groups?: number;
  /** Added to the mean square; 1e-5 when absent. */
  readonly eps?: number;
  /** false (when absent): gate, then normalise, as Mamba-2 does. true: normalise, then gate. */
  readonly normBeforeGate?: boolean;
}

const LARGEST_WORKGROUP = 256;
const SMALLEST_WORKGROUP = 32;

/** Invocations for a slice: a power of two that leaves each about two elements, within one workgroup. */
function workgroupSizeFor(elements: number): number {
  let size = SMALLEST_WORKGROUP;
  while (size < LARGEST_WORKGROUP && size * 2 < elements) size *= 2;
  return size;
}

const inQuads = (size: Size): boolean => typeof size === 'number' && size % 4 === 0;

/**
 * Gated root-mean-square normalisation: with `u = x * silu(z)`, each of `groups` slices of a row becomes
 * `u / sqrt(mean(u^2) + eps) * weight`; with `normBeforeGate`, `norm(x) * weight * silu(z)`.
 *
 * @returns (..., E) f32, contiguous
 * @throws ShapeError if `z` is not like `x`, or `weight` is not (E) f32; ArgumentError if `groups` does not divide E
 *
 * Cost: 9 E flops and 12 E bytes a row. Source: arXiv 2405.21060, section 7; `RMSNormGated` of state-spaces/mamba.
 */
export function gatedRmsNorm(
  recording: Recording,
  inputs: GatedRmsNormInputs,
  options: GatedRmsNormOptions = {},
): TensorRef {
  const { x, z, weight } = inputs;
  const { groups = 1, eps = 1e-5, normBeforeGate = false } = options;
  requireDtype('gatedRmsNorm', 'x', x, 'f32');
  requireDtype('gatedRmsNorm', 'z', z, 'f32');
  requireDtype('gatedRmsNorm', 'weight', weight, 'f32');
  const innerSize = requireStatic('gatedRmsNorm', 'E', x.shape[x.shape.length - 1]);
  requireShape('gatedRmsNorm', 'z', z, x.shape);
  requireShape('gatedRmsNorm', 'weight', weight, [innerSize]);
  requireArgument(
    Number.isInteger(groups) && groups > 0 && innerSize % groups === 0,
    `gatedRmsNorm: 'groups' is ${groups} for rows of ${innerSize} channels.`,
    'Give a number of groups that divides the channels.',
  );
  const channels = innerSize / groups;
  const rows = productSize(x.shape.slice(0, -1));
  const y = recording.scratch('gatedRmsNorm.y', 'f32', x.shape);
  const xStride = strideOfRows('x', x, 1);
  const zStride = strideOfRows('z', z, 1);
  requireArgument(weight.offset === 0, "gatedRmsNorm: 'weight' is a part of a tensor.", 'Give a tensor of its own.');
  const vector = [channels, x.offset, xStride, z.offset, zStride].every(inQuads);
  // The shader counts in elements; offsets that are expressions are only ever counted in single values.
  const unit = vector ? 4 : 1;
  const elements = (size: Size): Size => (typeof size === 'number' ? size / unit : size);
  const workgroupSize = workgroupSizeFor(channels / unit);
  recording.dispatch(gatedRmsNormShader, {
    bindings: { x, z, weight, y },
    params: {
      rows,
      groups,
      width: channels / unit,
      channels,
      xOffset: elements(x.offset),
      xStride: xStride / unit,
      zOffset: elements(z.offset),
      zStride: zStride / unit,
      yStride: y.rowStride / unit,
      eps,
    },
    overrides: { WORKGROUP_SIZE: workgroupSize, NORM_BEFORE_GATE: normBeforeGate },
    constants: { STEPS: Math.ceil(channels / unit / workgroupSize) },
    choices: { load: vector ? 'vec4' : 'scalar' },
    workgroups: flatGrid(multiplySize(rows, groups)),
  });
  return y;
}
