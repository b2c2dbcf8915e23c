// Longer than most host halves: two passes, each in a form for few rows and one for many.
import { fusedMlpShader } from '../generated/mlp/fused_mlp.ts';
import { fusedMlpMatrixShader } from '../generated/mlp/fused_mlp_matrix.ts';
import { fusedMlpStepShader } from '../generated/mlp/fused_mlp_step.ts';
import { requireShape } from '../core/checks.ts';
import { ArgumentError, ShapeError } from '../core/errors.ts';
import type { ActivationName, RowsView, WeightView } from '../core/matrix.ts';
import {
  activationNumber,
  chooseGatedTile,
  chooseMatrixTile,
  chooseTile,
  chooseVector,
  MATVEC_MAX_ROWS,
  productOutput,
  requireRows,
  requireVector,
  requireWeight,
  tileColumns,
  tileRows,
  usesMatrixUnits,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, isMultiple, maximumSize } from '../core/size.ts';

export interface FusedMlpInputs {
  /** (M, D) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (F, D) f32, f16, bf16, q8 or q4; left out for a feed-forward layer without a gate */
  readonly gate?: TensorRef | undefined;
  /** (F, D), of the gate's dtype */
  readonly up: TensorRef;
  /** (D, F) f32, f16, bf16, q8 or q4 */
  readonly down: TensorRef;
  /** (M, D) f32, updated in place */
  readonly residual?: TensorRef | undefined;
  /** (D) f32; where given, rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
  /** (F) f32, only with a gate */
  readonly gateBias?: TensorRef | undefined;
  /** (F) f32 */
  readonly upBias?: TensorRef | undefined;
  /** (D) f32 */
  readonly downBias?: TensorRef | undefined;
}

export interface FusedMlpOptions {
  readonly activation: ActivationName;
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Added to `normWeight`: 1 for models that store w - 1; 0 when absent. */
  readonly normWeightOffset?: number | undefined;
  /** Multiplies the down projection, not the residual; 1 when absent. */
  readonly scale?: number | undefined;
}

/**
 * Feed-forward layer: `y = residual + scale * (h down^T + downBias)` with `h = act(x gate^T + gateBias) * (x up^T + upBias)`,
 * or `h = act(x up^T + upBias)` without a gate. The activation makes it SwiGLU (silu), GeGLU (gelu, geluTanh) or, without
 * a gate, the layer of GPT-2 (geluTanh), GPT-NeoX (gelu) or Nemotron (relu2). A norm folded in is that of `matmul`. Gate
 * and up are one pass over x; the two dispatches use the vector form for up to 8 rows.
 *
 * @returns (M, D) f32: `residual`, or a new tensor
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation, or a bias of no gate
 *
 * Matrix units do the work where `matmul` says so, with x and h rounded to f16.
 *
 * Cost: 6 M D F flops with a gate, 4 M D F without; every weight is read once for each M tile (4 rows when M <= 8).
 * Source: arXiv 2002.05202, equations 2 and 6.
 */
export function fusedMlp(recording: Recording, inputs: FusedMlpInputs, options: FusedMlpOptions): TensorRef {
  const { x, gate, up, down, residual, normWeight, gateBias, upBias, downBias } = inputs;
  const upMatrix = requireWeight('fusedMlp', 'up', up);
  const { outputs: hidden, inner: width } = upMatrix;
  const xRows = requireRows('fusedMlp', 'x', x, width);
  const gateMatrix = gate === undefined ? undefined : requireGate(gate, up);
  const downMatrix = requireWeight('fusedMlp', 'down', down);
  requireShape('fusedMlp', 'down', down, [width, hidden]);
  requireVector('fusedMlp', 'normWeight', normWeight, width);
  requireVector('fusedMlp', 'gateBias', gateBias, hidden);
  requireVector('fusedMlp', 'upBias', upBias, hidden);
  requireVector('fusedMlp', 'downBias', downBias, width);
  if (gate === undefined && gateBias !== undefined) {
    throw new ArgumentError("fusedMlp: 'gateBias' comes without a gate.", "Without one, give the bias as 'upBias'.");
  }
  const activation = activationNumber('fusedMlp', options.activation);
  const h = productOutput(recording, 'fusedMlp.h', [xRows.rows, hidden], {});
  const y = productOutput(recording, 'fusedMlp', [xRows.rows, width], { residual });
  const record = maximumSize(xRows.rows) <= MATVEC_MAX_ROWS ? recordVector : recordTiles;
  const first = { x, rows: xRows, matrix: up, view: upMatrix, bias: upBias, gate, gateView: gateMatrix, gateBias };
  const norm = { normWeight, eps: options.normEps ?? 1e-5, normShift: options.normWeightOffset ?? 0 };
  record(recording, { ...first, ...norm, y: h.tensor, yRows: h.view, activation, scale: 1, add: false });
  const second = { x: h.tensor, rows: h.view, matrix: down, view: downMatrix, bias: downBias };
  const end = { y: y.tensor, yRows: y.view, scale: options.scale ?? 1, add: residual !== undefined };
  record(recording, { ...second, ...end, activation: 0, eps: 0, normShift: 0 });
  return y.tensor;
}

/** @throws ShapeError unless the gate has the shape and dtype of `up` */
function requireGate(gate: TensorRef, up: TensorRef): WeightView {
  requireShape('fusedMlp', 'gate', gate, up.shape);
  const view = requireWeight('fusedMlp', 'gate', gate);
  if (view.dtype === up.dtype) return view;
  throw new ShapeError(
    `fusedMlp: 'gate' and 'up' are read in one pass and must have one dtype; found ${gate.dtype} and ${up.dtype}.`,
    'Convert one of them.',
  );
}

/** One of the two passes, with every decision but the form made. */
interface Pass {
  readonly x: TensorRef;
  readonly rows: RowsView;
  readonly matrix: TensorRef;
  readonly view: WeightView;
  readonly bias?: TensorRef | undefined;
  readonly gate?: TensorRef | undefined;
  readonly gateView?: WeightView | undefined;
  readonly gateBias?: TensorRef | undefined;
  readonly normWeight?: TensorRef | undefined;
  readonly y: TensorRef;
  readonly yRows: RowsView;
  readonly activation: number;
  readonly eps: number;
  readonly normShift: number;
  readonly scale: number;
  readonly add: boolean;
}

/** What all forms have: bindings, parameters and overrides. */
function common(recording: Recording, pass: Pass) {
  const { rows, view, gate, gateView, yRows, bias, gateBias, normWeight } = pass;
  const absent = recording.placeholder();
  return {
    bindings: {
      x: pass.x,
      gate: gate ?? absent,
      up: pass.matrix,
      normWeight: normWeight ?? absent,
      gateBias: gateBias ?? absent,
      upBias: bias ?? absent,
      y: pass.y,
    },
    params: {
      rows: rows.rows,
      outputs: view.outputs,
      inner: view.inner,
      xOffset: rows.offset,
      xStride: rows.stride,
      gateOffset: gateView?.offset ?? 0,
      gateStride: gateView?.stride ?? 0,
      gateScales: gateView?.scales ?? 0,
      upOffset: view.offset,
      upStride: view.stride,
      upScales: view.scales,
      normOffset: normWeight?.offset ?? 0,
      gateBiasOffset: gateBias?.offset ?? 0,
      upBiasOffset: bias?.offset ?? 0,
      yOffset: yRows.offset,
      yStride: yRows.stride,
      eps: pass.eps,
      normShift: pass.normShift,
      scale: pass.scale,
    },
    overrides: {
      ACTIVATION: pass.activation,
      GATED: gate !== undefined,
      HAS_NORM: normWeight !== undefined,
      HAS_GATE_BIAS: gateBias !== undefined,
      HAS_UP_BIAS: bias !== undefined,
      HAS_RESIDUAL: pass.add,
      UNROLL: !recording.capabilities.software,
    },
  };
}

function recordTiles(recording: Recording, pass: Pass): void {
  const { rows, view, gate, yRows } = pass;
  const { bindings, params, overrides } = common(recording, pass);
  const { dtype } = view;
  const most = maximumSize(rows.rows);
  const access = rows.aligned && yRows.aligned ? 'vector' : 'scalar';
  if (usesMatrixUnits(recording, fusedMlpMatrixShader, dtype, rows.rows)) {
    const { UNROLL: _, ...units } = overrides;
    const shape = chooseMatrixTile(most, gate === undefined ? view.outputs : 2 * view.outputs);
    const columns = gate === undefined ? 32 * shape.SIDE : 16 * shape.SIDE;
    recording.dispatch(fusedMlpMatrixShader, {
      bindings,
      params,
      overrides: { ...shape, ...units },
      choices: { weight: dtype, access },
      workgroups: [ceilDivSize(rows.rows, 32 * shape.SIDE), Math.ceil(view.outputs / columns)],
    });
    return;
  }
  const tile = gate === undefined ? chooseTile(most, view.outputs) : chooseGatedTile(most, view.outputs);
  const made = gate === undefined ? tileColumns(tile) : tileColumns(tile) / 2;
  recording.dispatch(fusedMlpShader, {
    bindings,
    params,
    overrides: { ...tile, ...overrides },
    choices: { weight: dtype, access },
    workgroups: [ceilDivSize(rows.rows, tileRows(tile)), Math.ceil(view.outputs / made)],
  });
}

function recordVector(recording: Recording, pass: Pass): void {
  const { rows, view, gate, normWeight } = pass;
  const { bindings, params, overrides } = common(recording, pass);
  const chosen = chooseVector(maximumSize(rows.rows), view, recording.capabilities, normWeight !== undefined);
  // A gate's outputs take two rows of weights each.
  const shape = gate !== undefined && chosen.ROWS === 1 ? { ...chosen, ROWS: 2 as const } : chosen;
  recording.dispatch(fusedMlpStepShader, {
    bindings,
    params,
    overrides: { ...shape, ...overrides },
    choices: { weight: view.dtype, access: rows.aligned && isMultiple(params.normOffset, 4) ? 'vector' : 'scalar' },
    workgroups: vectorGrid(rows.rows, view.outputs, shape, gate === undefined ? shape.ROWS : shape.ROWS / 2),
  });
}
