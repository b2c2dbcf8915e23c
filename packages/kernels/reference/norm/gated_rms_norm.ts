import { sigmoid, silu } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface GatedRmsNormInputs {
  /** (rows, width) */
  readonly x: Numbers;
  /** (rows, width), the gate before its activation */
  readonly z: Numbers;
  /** (width) */
  readonly weight?: Numbers | undefined;
}

export interface GatedRmsNormOptions {
  readonly rows: number;
  readonly width: number;
  /** Slices of width / groups that are normalized separately; 1 by default. */
  readonly groups?: number | undefined;
  readonly eps: number;
  /** false (the default, Mamba-2): gate, then normalize. true: normalize, then gate. */
  readonly normBeforeGate?: boolean | undefined;
  /** act: silu by default */
  readonly activation?: 'silu' | 'sigmoid' | undefined;
}

/**
 * y = norm(x * act(z)) * weight, or norm(x) * weight * act(z) when `normBeforeGate`; norm(v) = v / sqrt(mean(v^2) + eps)
 * over each of `groups` equal slices of a row.
 *
 * Shapes: x, z and y (rows, width), weight (width). Source: Mamba-2, `RMSNormGated` (`rms_norm_ref`, `group_size`).
 */
export function gatedRmsNorm(inputs: GatedRmsNormInputs, options: GatedRmsNormOptions): Float64Array {
  const { rows, width, groups = 1, eps, normBeforeGate = false, activation = 'silu' } = options;
  const act = activation === 'silu' ? silu : sigmoid;
  expectDivisible('width', width, 'groups', groups);
  const x = float64('x', inputs.x, rows, width);
  const z = float64('z', inputs.z, rows, width);
  const weight = optionalFloat64('weight', inputs.weight, width);
  const groupWidth = width / groups;
  const y = zeros(rows * width);
  // A row is `groups` slices one after another, so slice s starts at s * groupWidth of the whole array.
  for (let slice = 0; slice < rows * groups; slice++) {
    const start = slice * groupWidth;
    let squares = 0;
    for (let i = start; i < start + groupWidth; i++) {
      const value = normBeforeGate ? x.at(i) : x.at(i) * act(z.at(i));
      squares += value * value;
    }
    const inverse = 1 / Math.sqrt(squares / groupWidth + eps);
    for (let i = start; i < start + groupWidth; i++) {
      const factor = weight === undefined ? 1 : weight.at(i % width);
      y.set(i, x.at(i) * act(z.at(i)) * inverse * factor);
    }
  }
  return y.values;
}
