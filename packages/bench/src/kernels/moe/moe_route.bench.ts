import type { MoeRouteOptions } from '@mambalab/kernels';
import { moeRoute } from '@mambalab/kernels';
import { moeRoute as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const inputsOf = (rows: number, experts: number): KernelCase['inputs'] => ({
  logits: { shape: [rows, experts], dtype: 'f32' },
});

const routeCase = (label: string, rows: number, experts: number, options: MoeRouteOptions): KernelCase => ({
  label: rows === 1 ? `${label} decode` : `${label} prefill ${rows}`,
  inputs: inputsOf(rows, experts),
  record: (recording, inputs) => moeRoute(recording, { logits: input(inputs, 'logits') }, options),
  // An exponential of each logit, and its comparisons with a block of 64.
  flops: rows * experts * (10 + Math.min(experts, 64)),
  bytes: 4 * rows * (experts + 2 * options.topK),
});

const granite: MoeRouteOptions = { topK: 6, order: 'topKThenSoftmax' };
const qwen: MoeRouteOptions = { topK: 10, normalize: true };
const deepseek: MoeRouteOptions = { topK: 8, scoring: 'sigmoid', normalize: true, groups: 8, topGroups: 4 };

export const moeRouteBench: KernelBench = {
  name: 'moe/moe_route',
  verify: {
    inputs: inputsOf(5, 80),
    record: (recording, inputs) => moeRoute(recording, { logits: input(inputs, 'logits') }, { topK: 6 }).weights,
    expected: (inputs) => reference({ logits: values(inputs, 'logits') }, { rows: 5, experts: 80, topK: 6 }).weights,
    rtol: 1e-6,
    atol: 1e-6,
  },
  cases: [
    routeCase('Granite 4 tiny', 1, 64, granite),
    routeCase('Granite 4 tiny', 512, 64, granite),
    routeCase('Qwen3-Next', 1, 512, qwen),
    routeCase('Qwen3-Next', 512, 512, qwen),
    routeCase('DeepSeek-V3', 1, 256, deepseek),
  ],
};
