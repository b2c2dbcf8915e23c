import { requireArgument, requireDtype, requireRank, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { flatGrid } from '../core/size.ts';
import { readShader } from '../generated/ceiling/read.ts';

/** Values that one workgroup of {@link ceilingRead} reads: 32 vectors for each of 256 invocations. */
export const READ_TILE: number = 32 * 256 * 4;

export interface CeilingReadInputs {
  /** (n) f32, n a multiple of {@link READ_TILE} */
  readonly x: TensorRef;
}

/**
 * Reads every value once and adds up those of each invocation: the fastest that a device can read memory.
 * The value of invocation t of tile w is the sum over i and c of `x[w, i, t, c]`, x seen as (n / READ_TILE, 32, 256, 4).
 *
 * @returns (n / 128) f32
 * @throws ShapeError or ArgumentError if `x` is not f32 (n) with n a multiple of READ_TILE
 *
 * Cost: n flops and 4 n + n / 32 bytes.
 */
export function ceilingRead(recording: Recording, inputs: CeilingReadInputs): TensorRef {
  const { x } = inputs;
  requireDtype('ceilingRead', 'x', x, 'f32');
  const count = requireStatic('ceilingRead', 'n', requireRank('ceilingRead', 'x', x, ['n'])[0]);
  requireArgument(count % READ_TILE === 0, `ceilingRead: n is ${count}.`, `Give a multiple of ${READ_TILE}.`);
  requireArgument(x.offset === 0, 'ceilingRead: x is a view.', 'Give a whole tensor.');
  const tiles = count / READ_TILE;
  const y = recording.scratch('ceilingRead.y', 'f32', [tiles * 256]);
  recording.dispatch(readShader, { bindings: { x, y }, params: { tiles }, workgroups: flatGrid(tiles) });
  return y;
}
