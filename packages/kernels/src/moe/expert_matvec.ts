import { expertMatvecShader } from '../generated/moe/expert_matvec.ts';
import type { VectorShape } from '../core/matrix.ts';
import { activationNumber, chooseVector, requireFewRows } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { flatGrid, isMultiple, maximumSize } from '../core/size.ts';
import type { ExpertPass } from './expert_pass.ts';
import { expertOutput, expertParams } from './expert_pass.ts';
import type { ExpertInputs, ExpertOptions } from './routing.ts';
import { requireExpertRows, requireExperts, requireRouting } from './routing.ts';

export interface ExpertMatvecOptions extends ExpertOptions {
  /** Workgroup size and outputs of one workgroup; chosen from the shapes when absent. */
  readonly shape?: Omit<VectorShape, 'X_ROWS'> | undefined;
}

/**
 * Product of few tokens with the matrices of their experts: `y[m, s] = act(weight[indices[m, s]] x[m])`, or x[m, s] where
 * every expert of a token has a row of its own. Weights of other experts are not read.
 *
 * @returns (M, k, N) f32, M <= 8, rows a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * Cost: 2 M k N K flops; every pair of a token and an expert reads the expert's weights, which is what takes the time.
 */
export function expertMatvec(recording: Recording, inputs: ExpertInputs, options: ExpertMatvecOptions = {}): TensorRef {
  const experts = requireExperts('expertMatvec', 'weight', inputs.weight);
  const first = inputs.x.shape[0] ?? 0;
  const routing = requireRouting('expertMatvec', inputs.routing, first);
  const { paired, rows } = requireExpertRows('expertMatvec', inputs.x, routing.slots, experts.inner);
  requireFewRows('expertMatvec', first);
  const activation = activationNumber('expertMatvec', options.activation);
  return recordExpertVector(recording, 'expertMatvec', {
    x: inputs.x,
    rows,
    paired,
    weight: inputs.weight,
    view: experts,
    routing: inputs.routing,
    pairs: routing,
    activation,
    shape: options.shape,
  });
}

interface VectorPass extends ExpertPass {
  readonly normWeight?: TensorRef | undefined;
  readonly eps?: number | undefined;
  readonly shape?: Omit<VectorShape, 'X_ROWS'> | undefined;
}

/** Records the form for few tokens. */
export function recordExpertVector(recording: Recording, kernel: string, pass: VectorPass): TensorRef {
  const { x, rows, view, gate, routing, pairs, normWeight } = pass;
  const y = expertOutput(recording, kernel, pass);
  const shape = pass.shape ?? chooseExpertVector(recording, pass);
  const normOffset = normWeight?.offset ?? 0;
  // A gate's outputs take two rows of weights each.
  const made = gate === undefined ? shape.ROWS : shape.ROWS / 2;
  const [across, down] = flatGrid(Math.ceil(view.outputs / made));
  recording.dispatch(expertMatvecShader, {
    bindings: {
      x,
      gate: gate ?? recording.placeholder(),
      weight: pass.weight,
      normWeight: normWeight ?? recording.placeholder(),
      indices: routing.indices,
      y,
    },
    params: {
      ...expertParams(pass, y),
      normOffset,
      indicesOffset: routing.indices.offset,
      eps: pass.eps ?? 0,
    },
    overrides: {
      ...shape,
      UNROLL: !recording.capabilities.software,
      ACTIVATION: pass.activation,
      GATED: gate !== undefined,
      PAIRED: pass.paired,
      HAS_NORM: normWeight !== undefined,
    },
    choices: { weight: view.dtype, access: rows.aligned && isMultiple(normOffset, 4) ? 'vector' : 'scalar' },
    workgroups: [across, down, pairs.pairs],
  });
  return y;
}

/** The shape of a matrix-vector product whose grid all pairs fill together. */
function chooseExpertVector(recording: Recording, { view, gate, pairs, normWeight }: VectorPass) {
  const together = { ...view, outputs: view.outputs * maximumSize(pairs.pairs) };
  const { WORKGROUP_SIZE, ROWS, AHEAD } = chooseVector(1, together, recording.capabilities, normWeight !== undefined);
  return { WORKGROUP_SIZE, ROWS: gate !== undefined && ROWS === 1 ? (2 as const) : ROWS, AHEAD };
}
