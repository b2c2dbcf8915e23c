// Longer than most host halves: two passes, each in a form for few rows and one for many.
import { fusedMlpShader } from '../generated/mlp/fused_mlp.ts';
import { fusedMlpMatrixShader } from '../generated/mlp/fused_mlp_matrix.ts';
import { fusedMlpStepShader } from '../generated/mlp/fused_mlp_step.ts';
import { requireShape } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import type { ActivationName, MatrixView, RowsView } from '../core/matrix.ts';
import {
  activationNumber,
  chooseGatedTile,
  chooseMatrixTile,
  chooseTile,
  chooseUnit,
  chooseVector,
  MATVEC_MAX_ROWS,
  productOutput,
  requireMatrix,
  requireRows,
  requireVector,
  tileColumns,
  tileRows,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, isMultiple, maximumSize } from '../core/size.ts';

export interface FusedMlpInputs {
  /** (M, D) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (F, D) f32, f16 or bf16; left out for a feed-forward layer without a gate */
  readonly gate?: TensorRef | undefined;
  /** (F, D), of the gate's dtype */
  readonly up: TensorRef;
  /** (D, F) f32, f16 or bf16 */
  readonly down: TensorRef;
  /** (M, D) f32, updated in place */
  readonly residual?: TensorRef | undefined;
  /** (D) f32; where given (M <= 8), rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
}

export interface FusedMlpOptions {
  readonly activation: ActivationName;
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Multiplies the down projection, not the residual; 1 when absent. */
  readonly scale?: number | undefined;
}

/**
 * Feed-forward layer: `y = residual + scale * h down^T` with `h = act(x gate^T) * (x up^T)`, or `h = act(x up^T)`
 * without a gate. Gate and up are one pass over x; the two dispatches use the vector form for up to 8 rows.
 *
 * @returns (M, D) f32: `residual`, or a new tensor
 * @throws ShapeError if shapes or dtypes do not agree, or `normWeight` comes with more than 8 rows; ArgumentError for
 *   an unknown activation
 *
 * Matrix units do the work where `matmul` says so, with x and h rounded to f16.
 *
 * Cost: 6 M D F flops with a gate, 4 M D F without; every weight is read once for each M tile (4 rows when M <= 8).
 * Source: arXiv 2002.05202, equations 2 and 6.
 */
export function fusedMlp(recording: Recording, inputs: FusedMlpInputs, options: FusedMlpOptions): TensorRef {
  const { x, gate, up, down, residual, normWeight } = inputs;
  const upMatrix = requireMatrix('fusedMlp', 'up', up);
  const { outputs: hidden, inner: width } = upMatrix;
  const xRows = requireRows('fusedMlp', 'x', x, width);
  const gateMatrix = gate === undefined ? undefined : requireGate(gate, up);
  const downMatrix = requireMatrix('fusedMlp', 'down', down);
  requireShape('fusedMlp', 'down', down, [width, hidden]);
  requireVector('fusedMlp', 'normWeight', normWeight, width);
  const activation = activationNumber('fusedMlp', options.activation);
  const most = maximumSize(xRows.rows);
  if (normWeight !== undefined && most > MATVEC_MAX_ROWS) {
    throw new ShapeError(
      `fusedMlp: 'normWeight' is folded in for up to ${MATVEC_MAX_ROWS} rows; x has up to ${most}.`,
      'Record rmsNorm first and leave normWeight out.',
    );
  }
  const h = productOutput(recording, 'fusedMlp.h', [xRows.rows, hidden], {});
  const y = productOutput(recording, 'fusedMlp', [xRows.rows, width], { residual });
  const record = most <= MATVEC_MAX_ROWS ? recordVector : recordTiles;
  const first = { x, rows: xRows, matrix: up, view: upMatrix, gate, gateView: gateMatrix, normWeight };
  record(recording, {
    ...first,
    y: h.tensor,
    yRows: h.view,
    activation,
    eps: options.normEps ?? 1e-5,
    scale: 1,
    add: false,
  });
  const second = { x: h.tensor, rows: h.view, matrix: down, view: downMatrix, y: y.tensor, yRows: y.view };
  record(recording, { ...second, activation: 0, eps: 0, scale: options.scale ?? 1, add: residual !== undefined });
  return y.tensor;
}

/** @throws ShapeError unless the gate has the shape and dtype of `up` */
function requireGate(gate: TensorRef, up: TensorRef): MatrixView {
  requireShape('fusedMlp', 'gate', gate, up.shape);
  const view = requireMatrix('fusedMlp', 'gate', gate);
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
  readonly view: MatrixView;
  readonly gate?: TensorRef | undefined;
  readonly gateView?: MatrixView | undefined;
  readonly normWeight?: TensorRef | undefined;
  readonly y: TensorRef;
  readonly yRows: RowsView;
  readonly activation: number;
  readonly eps: number;
  readonly scale: number;
  readonly add: boolean;
}

/** Parameters and overrides that both forms have. */
function common(pass: Pass) {
  const { rows, view, gateView, yRows } = pass;
  return {
    params: {
      rows: rows.rows,
      outputs: view.outputs,
      inner: view.inner,
      xOffset: rows.offset,
      xStride: rows.stride,
      gateOffset: gateView?.offset ?? 0,
      gateStride: gateView?.stride ?? 0,
      upOffset: view.offset,
      upStride: view.stride,
      yOffset: yRows.offset,
      yStride: yRows.stride,
      scale: pass.scale,
    },
    overrides: { ACTIVATION: pass.activation, GATED: pass.gate !== undefined, HAS_RESIDUAL: pass.add },
  };
}

function recordTiles(recording: Recording, pass: Pass): void {
  const { x, rows, matrix, view, gate, y, yRows } = pass;
  const { params, overrides } = common(pass);
  const most = maximumSize(rows.rows);
  const bindings = { x, gate: gate ?? recording.placeholder(), up: matrix, y };
  const access = rows.aligned && yRows.aligned ? 'vector' : 'scalar';
  if (chooseUnit(recording, fusedMlpMatrixShader, view.dtype, rows.rows) === 'matrix') {
    const shape = chooseMatrixTile(most, gate === undefined ? view.outputs : 2 * view.outputs);
    const columns = gate === undefined ? 32 * shape.SIDE : 16 * shape.SIDE;
    recording.dispatch(fusedMlpMatrixShader, {
      bindings,
      params,
      overrides: { ...shape, ...overrides },
      choices: { access },
      workgroups: [ceilDivSize(rows.rows, 32 * shape.SIDE), Math.ceil(view.outputs / columns)],
    });
    return;
  }
  const tile = gate === undefined ? chooseTile(most, view.outputs) : chooseGatedTile(most, view.outputs);
  const made = gate === undefined ? tileColumns(tile) : tileColumns(tile) / 2;
  recording.dispatch(fusedMlpShader, {
    bindings,
    params,
    overrides: { ...tile, ...overrides, UNROLL: !recording.capabilities.software },
    choices: { weight: view.dtype, access },
    workgroups: [ceilDivSize(rows.rows, tileRows(tile)), Math.ceil(view.outputs / made)],
  });
}

function recordVector(recording: Recording, pass: Pass): void {
  const { x, rows, matrix, view, gate, normWeight, y } = pass;
  const { params, overrides } = common(pass);
  const chosen = chooseVector(maximumSize(rows.rows), view, recording.capabilities, normWeight !== undefined);
  // A gate's outputs take two rows of weights each.
  const shape = gate !== undefined && chosen.ROWS === 1 ? { ...chosen, ROWS: 2 as const } : chosen;
  const normOffset = normWeight?.offset ?? 0;
  recording.dispatch(fusedMlpStepShader, {
    bindings: {
      x,
      gate: gate ?? recording.placeholder(),
      up: matrix,
      normWeight: normWeight ?? recording.placeholder(),
      y,
    },
    params: { ...params, normOffset, eps: pass.eps },
    overrides: { ...shape, ...overrides, HAS_NORM: normWeight !== undefined },
    choices: { weight: view.dtype, access: rows.aligned && isMultiple(normOffset, 4) ? 'vector' : 'scalar' },
    workgroups: vectorGrid(rows.rows, view.outputs, shape, gate === undefined ? shape.ROWS : shape.ROWS / 2),
  });
}
