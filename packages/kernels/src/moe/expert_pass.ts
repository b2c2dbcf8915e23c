import type { RowsView } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import type { ExpertsView, MoeRouting, RoutingView } from './routing.ts';

// What the two forms of a product with experts share.

/** A product with experts, with every decision but the form made. */
export interface ExpertPass {
  readonly x: TensorRef;
  readonly rows: RowsView;
  readonly paired: boolean;
  readonly weight: TensorRef;
  readonly view: ExpertsView;
  readonly gate?: TensorRef | undefined;
  readonly gateView?: ExpertsView | undefined;
  readonly routing: MoeRouting;
  readonly pairs: RoutingView;
  readonly activation: number;
}

/** The result of a pass: (M, k, N) f32 with 16-byte aligned rows. */
export function expertOutput(recording: Recording, kernel: string, { pairs, view }: ExpertPass): TensorRef {
  const width = Math.ceil(view.outputs / 4) * 4;
  return recording.scratch(`${kernel}.y`, 'f32', [pairs.tokens, pairs.slots, view.outputs], width);
}

type ExpertParams = Readonly<
  Record<
    | 'slots'
    | 'outputs'
    | 'inner'
    | 'xOffset'
    | 'xStride'
    | 'gateOffset'
    | 'gateStride'
    | 'gateExpertStride'
    | 'gateScales'
    | 'weightOffset'
    | 'weightStride'
    | 'weightExpertStride'
    | 'weightScales'
    | 'yStride',
    Size
  >
>;

/** Parameters that both forms have. */
export function expertParams({ rows, view, gateView, pairs }: ExpertPass, y: TensorRef): ExpertParams {
  return {
    slots: pairs.slots,
    outputs: view.outputs,
    inner: view.inner,
    xOffset: rows.offset,
    xStride: rows.stride,
    gateOffset: gateView?.offset ?? 0,
    gateStride: gateView?.stride ?? 0,
    gateExpertStride: gateView?.expertStride ?? 0,
    gateScales: gateView?.scales ?? 0,
    weightOffset: view.offset,
    weightStride: view.stride,
    weightExpertStride: view.expertStride,
    weightScales: view.scales,
    yStride: y.rowStride,
  };
}
