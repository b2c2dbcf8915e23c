import type { MoeRouting, TensorRef } from '@mambalab/kernels';
import type { KernelCase } from '../../harness/kernel_bench.ts';
import { input } from '../../harness/kernel_bench.ts';

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

/** Inputs of one product of `rows` tokens with the up projections of their experts, which are drawn at random. */
export function productInputs(rows: number, { experts, topK, width, hidden }: ExpertLayer): KernelCase['inputs'] {
  return {
    x: { shape: [rows, width], dtype: 'f32' },
    weight: { shape: [experts, hidden, width], dtype: 'f16', matrix: true },
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

/** A case of that product. */
export function productCase(rows: number, layer: ExpertLayer, record: KernelCase['record']): KernelCase {
  const { label, topK, width, hidden } = layer;
  return {
    label: rows === 1 ? `${label} decode` : `${label} prefill ${rows}`,
    inputs: productInputs(rows, layer),
    record,
    flops: 2 * rows * topK * width * hidden,
    bytes: 2 * usedExperts(rows, layer) * width * hidden + 4 * rows * (width + topK * hidden),
  };
}
