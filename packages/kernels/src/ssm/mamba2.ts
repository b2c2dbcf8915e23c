import { requireArgument } from '../core/checks.ts';
import { MATVEC_MAX_ROWS } from '../core/matrix.ts';
import type { Size } from '../core/size.ts';
import { isMultiple } from '../core/size.ts';

// What the passes of a Mamba-2 layer's decoding step share on the host.

/** Sizes that decide whether a layer can be decoded by `mamba2DecodeStep`. */
export interface Mamba2DecodeSizes {
  readonly batch: number;
  /** Width of the residual stream. */
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  readonly stateSize: number;
  readonly taps: number;
  readonly normGroups: number;
}

/** Groups of the gated norm whose factors four sequences can keep in workgroup memory. */
export const MOST_NORM_GROUPS = 64;

/** Whether `mamba2DecodeStep` takes a layer of these sizes; the single kernels take all. */
export function fitsMamba2DecodeStep(sizes: Mamba2DecodeSizes): boolean {
  const { batch, hidden, heads, headDim, stateSize, taps, normGroups } = sizes;
  return (
    batch <= MATVEC_MAX_ROWS &&
    taps >= 2 &&
    taps <= 4 &&
    normGroups <= MOST_NORM_GROUPS &&
    [hidden, stateSize, (heads * headDim) / normGroups].every((size) => isMultiple(size, 4))
  );
}

/** @throws ArgumentError unless all these are multiples of 4 values, which the 16-byte loads of the passes need */
export function requireAligned(kernel: string, sizes: Readonly<Record<string, Size>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    requireArgument(
      isMultiple(size, 4),
      `${kernel}: ${name} must be a multiple of 4 values.`,
      'Use matvec, causalConv1dStep, ssdStep and gatedRmsNorm, which take any sizes.',
    );
  }
}

/** Checks the groups of the gated norm; gives the channels of one. */
export function requireNormGroups(kernel: string, inner: number, normGroups: number): number {
  requireArgument(
    Number.isInteger(normGroups) && normGroups > 0 && normGroups <= MOST_NORM_GROUPS && inner % normGroups === 0,
    `${kernel}: 'normGroups' is ${normGroups} for rows of ${inner} channels.`,
    `Give a number of groups up to ${MOST_NORM_GROUPS} that divides the channels.`,
  );
  requireAligned(kernel, { 'the width of a group of the norm': inner / normGroups });
  return inner / normGroups;
}
