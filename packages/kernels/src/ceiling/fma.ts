import { requireArgument, requireDtype, requireRank, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { flatGrid } from '../core/size.ts';
import { fmaShader } from '../generated/ceiling/fma.ts';

/** Flops of one value of {@link ceilingFma} in one iteration: 32 chains, a multiplication and an addition each. */
export const FMA_FLOPS = 64;

export interface CeilingFmaInputs {
  /** (n) f32 */
  readonly x: TensorRef;
}

export interface CeilingFmaOptions {
  /** A multiple of 4. */
  readonly iterations: number;
  readonly scale: number;
  readonly shift: number;
}

/**
 * Iterates `v = v * scale + shift` on 32 values made from each `x[i]` and adds them up: the most multiply-adds that a
 * device does. Value (k, c) of the 8 times 4 begins as `x[i] + (k + c) / 8`.
 *
 * @returns (n) f32
 * @throws ShapeError or ArgumentError if `x` is not f32 (n), or `iterations` is not a multiple of 4
 *
 * Cost: 64 n iterations flops and 8 n bytes.
 */
export function ceilingFma(recording: Recording, inputs: CeilingFmaInputs, options: CeilingFmaOptions): TensorRef {
  const { x } = inputs;
  const { iterations, scale, shift } = options;
  requireDtype('ceilingFma', 'x', x, 'f32');
  const count = requireStatic('ceilingFma', 'n', requireRank('ceilingFma', 'x', x, ['n'])[0]);
  const whole = Number.isInteger(iterations / 4) && iterations > 0;
  requireArgument(whole, `ceilingFma: iterations is ${iterations}.`, 'Give a positive multiple of 4.');
  requireArgument(x.offset === 0, 'ceilingFma: x is a view.', 'Give a whole tensor.');
  const y = recording.scratch('ceilingFma.y', 'f32', [count]);
  recording.dispatch(fmaShader, {
    bindings: { x, y },
    params: { count, scale, shift },
    overrides: { ITERATIONS: iterations },
    workgroups: flatGrid(Math.ceil(count / 256)),
  });
  return y;
}
