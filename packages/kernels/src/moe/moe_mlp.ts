import { requireArgument, requireShape } from '../core/checks.ts';
import { ArgumentError, ShapeError } from '../core/errors.ts';
import type { ActivationName } from '../core/matrix.ts';
import { activationNumber, MATVEC_MAX_ROWS, productOutput, requireVector } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { addSize, maximumSize } from '../core/size.ts';
import { recordExpertTiles } from './expert_matmul.ts';
import { recordExpertVector } from './expert_matvec.ts';
import type { LastPass } from './moe_mlp_down.ts';
import { recordDown, recordDownTiles } from './moe_mlp_down.ts';
import type { ExpertsView, MoeRouting } from './routing.ts';
import { requireExpertRows, requireExperts, requireRouting } from './routing.ts';

export interface MoeMlpInputs {
  /** (M, D) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** Of `moeRoute`; sorted for more than 8 tokens */
  readonly routing: MoeRouting;
  /** (E, F, D) f32, f16, bf16, q8 or q4; left out for feed-forward layers without a gate */
  readonly gate?: TensorRef | undefined;
  /** (E, F, D), of the gate's dtype */
  readonly up?: TensorRef | undefined;
  /** (E, 2 F, D): in place of both, each expert's gate before its up, as many checkpoints store them */
  readonly gateUp?: TensorRef | undefined;
  /** (E, D, F) f32, f16, bf16, q8 or q4 */
  readonly down: TensorRef;
  /** (M, D) f32, updated in place */
  readonly residual?: TensorRef | undefined;
  /** (D) f32; where given (M <= 8), rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
}

export interface MoeMlpOptions {
  readonly activation: ActivationName;
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Multiplies the sum of the experts, not the residual; 1 when absent. */
  readonly scale?: number | undefined;
}

/**
 * Feed-forward layer of experts: `y = residual + scale * sum_s weights[s] * h[s] down[e]^T` over the experts e of a token,
 * with `h[s] = act(x gate[e]^T) * (x up[e]^T)`, or `h[s] = act(x up[e]^T)` without a gate. A token's experts are added in
 * the order of the routing: every run gives the same bits.
 *
 * Up to 8 tokens, two dispatches read the weights of each token's experts; beyond, three work on tiles of the pairs of
 * one expert and then add the rows up. Experts that every token shares are an ordinary `fusedMlp` into the same residual.
 *
 * @returns (M, D) f32: `residual`, or a new tensor
 * @throws ShapeError if shapes or dtypes do not agree, the routing of more than 8 tokens is not sorted, or `normWeight`
 *   comes with them; ArgumentError for an unknown activation, or unless `up` or `gateUp` is given
 *
 * Cost: 6 M k D F flops with a gate, 4 M k D F without; see `expertMatvec` and `expertMatmul` for what is read.
 */
export function moeMlp(recording: Recording, inputs: MoeMlpInputs, options: MoeMlpOptions): TensorRef {
  const { x, routing, down, residual, normWeight } = inputs;
  const first = requireFirst(inputs);
  const { experts, outputs: hidden, inner: width } = first.view;
  const pairs = requireRouting('moeMlp', routing, x.shape[0] ?? 0);
  requireShape('moeMlp', 'x', x, [pairs.tokens, width]);
  const { rows } = requireExpertRows('moeMlp', x, pairs.slots, width);
  const downView = requireExperts('moeMlp', 'down', down);
  requireShape('moeMlp', 'down', down, [experts, width, hidden]);
  requireVector('moeMlp', 'normWeight', normWeight, width);
  const activation = activationNumber('moeMlp', options.activation);
  const few = maximumSize(pairs.tokens) <= MATVEC_MAX_ROWS;
  if (normWeight !== undefined && !few) {
    throw new ShapeError(
      `moeMlp: 'normWeight' is folded in for up to ${MATVEC_MAX_ROWS} tokens; x has up to ${maximumSize(pairs.tokens)}.`,
      'Record rmsNorm first and leave normWeight out.',
    );
  }
  const y = productOutput(recording, 'moeMlp', [pairs.tokens, width], { residual });
  const pass = { x, rows, paired: false, ...first, routing, pairs, activation };
  const last: LastPass = {
    down,
    view: downView,
    routing,
    pairs,
    y: y.tensor,
    yRows: y.view,
    scale: options.scale ?? 1,
    add: residual !== undefined,
  };
  if (few) {
    const eps = options.normEps ?? 1e-5;
    recordDown(recording, recordExpertVector(recording, 'moeMlp.h', { ...pass, normWeight, eps }), last);
  } else {
    recordDownTiles(recording, recordExpertTiles(recording, 'moeMlp.h', pass), last);
  }
  return y.tensor;
}

/** The matrices of the first pass. @throws ShapeError or ArgumentError unless they go together */
function requireFirst({ gate, up, gateUp }: MoeMlpInputs): {
  readonly weight: TensorRef;
  readonly view: ExpertsView;
  readonly gate?: TensorRef;
  readonly gateView?: ExpertsView;
} {
  const hint = "Give 'up', 'gate' and 'up', or 'gateUp'.";
  if (gateUp !== undefined) {
    requireArgument(gate === undefined && up === undefined, "moeMlp: 'gateUp' holds gate and up already.", hint);
    const both = requireExperts('moeMlp', 'gateUp', gateUp);
    const hidden = both.outputs / 2;
    if (!Number.isInteger(hidden)) {
      throw new ShapeError(
        `moeMlp: 'gateUp' has ${both.outputs} rows an expert, an odd number.`,
        "Give each expert's gate and then its up.",
      );
    }
    const gateView = { ...both, outputs: hidden };
    const view = { ...gateView, offset: addSize(both.offset, hidden * both.stride) };
    return { weight: gateUp, view, gate: gateUp, gateView };
  }
  if (up === undefined) throw new ArgumentError('moeMlp: the first product has no weights.', hint);
  const view = requireExperts('moeMlp', 'up', up);
  if (gate === undefined) return { weight: up, view };
  requireShape('moeMlp', 'gate', gate, up.shape);
  const gateView = requireExperts('moeMlp', 'gate', gate);
  if (gateView.dtype === view.dtype) return { weight: up, view, gate, gateView };
  throw new ShapeError(
    `moeMlp: 'gate' and 'up' are read in one pass and must have one dtype; found ${gate.dtype} and ${up.dtype}.`,
    'Convert one of them.',
  );
}
