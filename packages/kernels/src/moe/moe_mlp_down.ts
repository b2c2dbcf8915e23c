import { moeCombineShader } from '../generated/moe/moe_combine.ts';
import { moeMlpDownShader } from '../generated/moe/moe_mlp_down.ts';
import type { RowsView } from '../core/matrix.ts';
import { chooseVector } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, flatGrid, maximumSize, multiplySize } from '../core/size.ts';
import { recordExpertTiles } from './expert_matmul.ts';
import type { ExpertsView, MoeRouting, RoutingView } from './routing.ts';
import { requireExpertRows } from './routing.ts';

/** The second pass, with every decision but the form made. */
export interface LastPass {
  readonly down: TensorRef;
  readonly view: ExpertsView;
  readonly routing: MoeRouting;
  readonly pairs: RoutingView;
  readonly y: TensorRef;
  readonly yRows: RowsView;
  readonly scale: number;
  readonly add: boolean;
}

/** A token's experts in one sum. */
export function recordDown(recording: Recording, h: TensorRef, pass: LastPass): void {
  const { down, view, routing, pairs, y, yRows } = pass;
  // The slots of a token are one long row.
  const long = { ...view, inner: view.inner * pairs.slots, outputs: view.outputs * maximumSize(pairs.tokens) };
  const { WORKGROUP_SIZE, ROWS } = chooseVector(1, long, recording.capabilities, false);
  const [across, along] = flatGrid(Math.ceil(view.outputs / ROWS));
  recording.dispatch(moeMlpDownShader, {
    bindings: { h, down, indices: routing.indices, weights: routing.weights, y },
    params: {
      slots: pairs.slots,
      outputs: view.outputs,
      inner: view.inner,
      hStride: h.rowStride,
      downOffset: view.offset,
      downStride: view.stride,
      downExpertStride: view.expertStride,
      downScales: view.scales,
      indicesOffset: routing.indices.offset,
      weightsOffset: routing.weights.offset,
      yOffset: yRows.offset,
      yStride: yRows.stride,
      scale: pass.scale,
    },
    overrides: { WORKGROUP_SIZE, ROWS, UNROLL: !recording.capabilities.software, HAS_RESIDUAL: pass.add },
    choices: { weight: view.dtype },
    workgroups: [across, along, pairs.tokens],
  });
}

/** A row for every pair, and then their sums. */
export function recordDownTiles(recording: Recording, h: TensorRef, pass: LastPass): void {
  const { down, view, routing, pairs, y, yRows } = pass;
  const { rows, paired } = requireExpertRows('moeMlp', h, pairs.slots, view.inner);
  const first = { x: h, rows, paired, weight: down, view, routing, pairs, activation: 0 };
  const parts = recordExpertTiles(recording, 'moeMlp.rows', first);
  const workgroup = recording.capabilities.software ? 4 : 256;
  const quads = multiplySize(pairs.tokens, Math.ceil(view.outputs / 4));
  recording.dispatch(moeCombineShader, {
    bindings: { rows: parts, weights: routing.weights, y },
    params: {
      tokens: pairs.tokens,
      slots: pairs.slots,
      outputs: view.outputs,
      rowsStride: parts.rowStride,
      weightsOffset: routing.weights.offset,
      yOffset: yRows.offset,
      yStride: yRows.stride,
      scale: pass.scale,
    },
    overrides: { WORKGROUP_SIZE: workgroup, HAS_RESIDUAL: pass.add },
    choices: { access: yRows.aligned ? 'vector' : 'scalar' },
    workgroups: flatGrid(ceilDivSize(quads, workgroup)),
  });
}
