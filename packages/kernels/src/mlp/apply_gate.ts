import { applyGateShader } from '../generated/mlp/apply_gate.ts';
import { requireArgument, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { ActivationName, RowsView } from '../core/matrix.ts';
import { activationNumber, productOutput, requireRows } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, flatGrid, loadChoice, multiplySize } from '../core/size.ts';

export interface ApplyGateInputs {
  /** (M, F) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (M, F) f32, or (M, 1), which is one gate for a whole row; rows may be strided */
  readonly gate?: TensorRef | undefined;
  /** (M, F) f32, not together with `residual`; rows may be strided */
  readonly addend?: TensorRef | undefined;
  /** (M, F) f32, updated in place; rows may be strided */
  readonly residual?: TensorRef | undefined;
  /** (M, F) f32, where the result goes, such as columns of a wider tensor; not together with `residual` */
  readonly out?: TensorRef | undefined;
}

export interface ApplyGateOptions {
  /** Of the gate; 'none' when absent. */
  readonly activation?: ActivationName | undefined;
  /** Multiplies x, not what is added; 1 when absent. */
  readonly scale?: number | undefined;
}

const WORKGROUP_SIZE = 64;

/**
 * Multiplies with a gate and adds, value by value: `y = addend + scale * act(gate) * x`, or `residual += scale * act(gate) * x`.
 * It is a gated feed-forward layer whose gate and up projections are made apart, the sigmoid gate of a shared expert and,
 * without a gate, a sum of two tensors or, without anything else, a copy into columns of a wider one.
 *
 * @returns (M, F) f32: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree, or what is written shares its storage with x, `gate` or `addend`;
 *   ArgumentError for an unknown activation, one of no gate, or both `residual` and `out` or `addend`
 *
 * Cost: 1 flop a value without a gate, up to 20 with one; 4 M F bytes for each tensor. Source: arXiv 2002.05202, equation 5.
 */
export function applyGate(recording: Recording, inputs: ApplyGateInputs, options: ApplyGateOptions = {}): TensorRef {
  const { x, gate, addend, residual, out } = inputs;
  const [rows = 0, last] = requireRank('applyGate', 'x', x, ['M', 'F']);
  const width = requireStatic('applyGate', 'F', last);
  requireArgument(
    residual === undefined || addend === undefined,
    "applyGate: 'residual' is what the result is added to, so that 'addend' has no place.",
    'Give one of them.',
  );
  const activation = activationNumber('applyGate', options.activation);
  requireArgument(
    gate !== undefined || activation === 0,
    `applyGate: the activation '${options.activation ?? ''}' has no gate to act on.`,
    "Give a 'gate', or leave the activation out.",
  );
  const whole = (name: string, tensor: TensorRef): RowsView => {
    requireShape('applyGate', name, tensor, [rows, width]);
    return requireRows('applyGate', name, tensor, width);
  };
  const xRows = whole('x', x);
  const addendRows = addend === undefined ? ABSENT : whole('addend', addend);
  const { rowGate, view: gateRows } = gateView(gate, rows, width);
  const { tensor: y, view: yRows } = productOutput(recording, 'applyGate', [rows, width], { residual, out });
  const loaded = [xRows, addendRows, yRows, ...(rowGate ? [] : [gateRows])];
  const choices = loadChoice(width, ...loaded.flatMap(({ offset, stride }) => [offset, stride]));
  const values = (choices.load ?? recording.choice(applyGateShader, 'load')) === 'vec4' ? 4 : 1;
  recording.dispatch(applyGateShader, {
    bindings: { x, gate: gate ?? recording.placeholder(), addend: addend ?? recording.placeholder(), y },
    params: {
      rows,
      width,
      xOffset: xRows.offset,
      xStride: xRows.stride,
      gateOffset: gateRows.offset,
      gateStride: gateRows.stride,
      addendOffset: addendRows.offset,
      addendStride: addendRows.stride,
      yOffset: yRows.offset,
      yStride: yRows.stride,
      scale: options.scale ?? 1,
    },
    overrides: {
      WORKGROUP_SIZE,
      ACTIVATION: activation,
      HAS_GATE: gate !== undefined,
      ROW_GATE: rowGate,
      HAS_ADDEND: addend !== undefined,
      HAS_RESIDUAL: residual !== undefined,
    },
    choices,
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, width / values), WORKGROUP_SIZE)),
  });
  return y;
}

const ABSENT = { offset: 0, stride: 0 } as const;

/** Where a gate lies, and whether it is one value a row. @throws ShapeError unless it is (M, F) or (M, 1) f32 */
function gateView(
  gate: TensorRef | undefined,
  rows: Size,
  width: number,
): { readonly rowGate: boolean; readonly view: Pick<RowsView, 'offset' | 'stride'> } {
  if (gate === undefined) return { rowGate: false, view: ABSENT };
  const rowGate = gate.shape[1] === 1;
  requireShape('applyGate', 'gate', gate, [rows, rowGate ? 1 : width]);
  return { rowGate, view: requireRows('applyGate', 'gate', gate, rowGate ? 1 : width) };
}
