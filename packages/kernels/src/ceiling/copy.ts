import { requireArgument, requireDtype, requireRank, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { flatGrid } from '../core/size.ts';
import { copyShader } from '../generated/ceiling/copy.ts';

/** Values that one workgroup of {@link ceilingCopy} copies: 4 vectors for each of 256 invocations. */
export const COPY_TILE: number = 4 * 256 * 4;

export interface CeilingCopyInputs {
  /** (n) f32, n a multiple of {@link COPY_TILE} */
  readonly x: TensorRef;
}

/**
 * Copies every value: the fastest that a device can read and write memory at the same time.
 *
 * @returns (n) f32
 * @throws ShapeError or ArgumentError if `x` is not f32 (n) with n a multiple of COPY_TILE
 *
 * Cost: no flops and 8 n bytes.
 */
export function ceilingCopy(recording: Recording, inputs: CeilingCopyInputs): TensorRef {
  const { x } = inputs;
  requireDtype('ceilingCopy', 'x', x, 'f32');
  const count = requireStatic('ceilingCopy', 'n', requireRank('ceilingCopy', 'x', x, ['n'])[0]);
  requireArgument(count % COPY_TILE === 0, `ceilingCopy: n is ${count}.`, `Give a multiple of ${COPY_TILE}.`);
  requireArgument(x.offset === 0, 'ceilingCopy: x is a view.', 'Give a whole tensor.');
  const tiles = count / COPY_TILE;
  const y = recording.scratch('ceilingCopy.y', 'f32', [count]);
  recording.dispatch(copyShader, { bindings: { x, y }, params: { tiles }, workgroups: flatGrid(tiles) });
  return y;
}
