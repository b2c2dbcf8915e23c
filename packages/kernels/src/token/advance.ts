import { advanceShader } from '../generated/token/advance.ts';
import { requireDtype, requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize } from '../core/size.ts';

export interface AdvanceInputs {
  /** (B) u32, updated in place */
  readonly position: TensorRef;
}

export interface AdvanceOptions {
  /** Tokens that were consumed. */
  readonly by: Size;
}

const WORKGROUP_SIZE = 64;

/**
 * Counts consumed tokens: `position[b] += by`.
 *
 * @returns `position`
 * @throws ShapeError if `position` is not (B) u32
 *
 * Cost: 8 B bytes.
 */
export function advance(recording: Recording, inputs: AdvanceInputs, options: AdvanceOptions): TensorRef {
  const { position } = inputs;
  requireDtype('advance', 'position', position, 'u32');
  const [batch = 1] = requireRank('advance', 'position', position, ['B']);
  recording.dispatch(advanceShader, {
    bindings: { position },
    params: { batch, offset: position.offset, by: options.by },
    overrides: { WORKGROUP_SIZE },
    workgroups: [ceilDivSize(batch, WORKGROUP_SIZE)],
  });
  return position;
}
