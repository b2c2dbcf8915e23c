import type { MoeRouting, TensorRef } from '@mambalab/kernels';
import type { KernelCase, MeasuredDtype } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

/** A layer of experts: E of F by D, of which a token has k. */
export interface ExpertLayer {
  readonly label: string;
  readonly experts: number;
  readonly topK: number;
  readonly width: number;
  readonly hidden: number;
}

export const EXPERT_LAYERS: readonly ExpertLayer[] = [
  { label: 'Granite 4 tiny', experts: 64, topK: 6, width: 1536, hidden: 512 },
  { label: 'Qwen3-Next', experts: 512, topK: 10, width: 2048, hidden: 512 },
];

/** Dtypes of the experts that cases are measured with. */
export const EXPERT_DTYPES: readonly MeasuredDtype[] = ['f16', 'q8', 'q4'];

/** Inputs of one product of `rows` tokens with the up projections of their experts, which are drawn at random. */
export function productInputs(
  rows: number,
  { experts, topK, width, hidden }: ExpertLayer,
  dtype: MeasuredDtype = 'f16',
): KernelCase['inputs'] {
  return {
    x: { shape: [rows, width], dtype: 'f32' },
    weight: { shape: [experts, hidden, width], dtype, matrix: true },
    indices: { shape: [rows, topK], dtype: 'u32', below: experts },
    weights: { shape: [rows, topK], dtype: 'f32' },
  };
}

export function routingOf(inputs: Readonly<Record<string, TensorRef>>): MoeRouting {
  return { indices: input(inputs, 'indices'), weights: input(inputs, 'weights') };
}

/** Experts that so many tokens have among them, if each draws k of them at random. */
export function usedExperts(rows: number, { experts, topK }: ExpertLayer): number {
  return experts * (1 - (1 - topK / experts) ** rows);
}

/** What tells a case from the others of its kernel. */
export const caseLabel = (rows: number, { label }: ExpertLayer, dtype: MeasuredDtype): string =>
  `${label} ${rows === 1 ? 'decode' : `prefill ${rows}`}${dtypeLabel(dtype)}`;

/** A case of that product. */
export function productCase(
  rows: number,
  layer: ExpertLayer,
  record: KernelCase['record'],
  dtype: MeasuredDtype,
): KernelCase {
  const { topK, width, hidden } = layer;
  return {
    label: caseLabel(rows, layer, dtype),
    inputs: productInputs(rows, layer, dtype),
    record,
    flops: 2 * rows * topK * width * hidden,
    bytes: WEIGHT_BYTES[dtype] * usedExperts(rows, layer) * width * hidden + 4 * rows * (width + topK * hidden),
  };
}
