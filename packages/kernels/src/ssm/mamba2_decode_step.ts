import type { Recording, TensorRef } from '../core/recording.ts';
import type { Mamba2OutputStepInputs } from './mamba2_output_step.ts';
import { mamba2OutputStep } from './mamba2_output_step.ts';
import type { Mamba2ProjectStepInputs } from './mamba2_project_step.ts';
import { mamba2ProjectStep } from './mamba2_project_step.ts';
import type { Mamba2UpdateStepInputs, Mamba2UpdateStepOptions } from './mamba2_update_step.ts';
import { mamba2UpdateStep } from './mamba2_update_step.ts';

/** Every tensor of a layer; E = H P, and the projection has 2 E + 2 G N + H columns. */
export interface Mamba2DecodeStepInputs
  extends
    Omit<Mamba2ProjectStepInputs, 'weight' | 'bias'>,
    Omit<Mamba2UpdateStepInputs, 'projected'>,
    Pick<Mamba2OutputStepInputs, 'residual'> {
  /** (2 E + 2 G N + H, D) f32, f16, bf16, q8 or q4 */
  readonly inWeight: TensorRef;
  /** (2 E + 2 G N + H) f32 */
  readonly inBias?: TensorRef | undefined;
  /** (E) f32, the weight of the gated norm */
  readonly gateNorm: TensorRef;
  /** (D, E) f32, f16, bf16, q8 or q4 */
  readonly outWeight: TensorRef;
  /** (D) f32 */
  readonly outBias?: TensorRef | undefined;
}

export interface Mamba2DecodeStepOptions extends Mamba2UpdateStepOptions {
  /** Added to the mean square of x where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Added to the mean square of the gated norm; 1e-5 when absent. */
  readonly gateEps?: number | undefined;
}

/**
 * One token of up to 8 sequences through a Mamba-2 layer, in three dispatches: norm, projection and convolution;
 * state and gate; gated norm, projection and residual. `fitsMamba2DecodeStep` tells which sizes it takes.
 *
 * @returns (B, D) f32: `residual`, or a new tensor; `convState` and `state` are updated in place
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for sizes that only the single kernels take
 *
 * Cost: one read of the weights for every 4 sequences, one read and one write of the states. Source: `Mamba2.step` of
 * state-spaces/mamba.
 */
export function mamba2DecodeStep(
  recording: Recording,
  inputs: Mamba2DecodeStepInputs,
  options: Mamba2DecodeStepOptions,
): TensorRef {
  const { x, inWeight, inBias, normWeight, convWeight, convBias, convState } = inputs;
  const { A, dtBias, D, state, gateNorm, outWeight, outBias, residual } = inputs;
  const { normEps, gateEps, ...update } = options;
  const [, heads = 0, headDim = 0] = state.shape;
  const inner = typeof heads === 'number' && typeof headDim === 'number' ? heads * headDim : 0;
  const projected = mamba2ProjectStep(
    recording,
    { x, weight: inWeight, bias: inBias, normWeight, convWeight, convBias, convState },
    { inner, normEps },
  );
  const { u, squares } = mamba2UpdateStep(recording, { projected, A, dtBias, D, state }, update);
  return mamba2OutputStep(
    recording,
    { u, squares, weight: outWeight, normWeight: gateNorm, bias: outBias, residual },
    { normGroups: options.normGroups, normEps: gateEps },
  );
}
