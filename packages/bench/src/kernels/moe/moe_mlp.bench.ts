import type { Recording, TensorRef } from '@mambalab/kernels';
import { moeMlp, moeRoute } from '@mambalab/kernels';
import { moeMlp as reference, moeRoute as routeReference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype } from '../../harness/kernel_bench.ts';
import { input, values, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';
import type { ExpertLayer } from './experts.ts';
import { caseLabel, EXPERT_DTYPES, EXPERT_LAYERS, usedExperts } from './experts.ts';

const inputsOf = (
  rows: number,
  { experts, width, hidden }: ExpertLayer,
  dtype: MeasuredDtype = 'f16',
): KernelCase['inputs'] => ({
  x: { shape: [rows, width], dtype: 'f32' },
  logits: { shape: [rows, experts], dtype: 'f32' },
  gate: { shape: [experts, hidden, width], dtype, matrix: true, scale: 1 / Math.sqrt(width) },
  up: { shape: [experts, hidden, width], dtype, matrix: true, scale: 1 / Math.sqrt(width) },
  down: { shape: [experts, width, hidden], dtype, matrix: true, scale: 1 / Math.sqrt(hidden) },
});

/** The whole layer behind the product with the router: choice, order where needed, and experts. */
const recordWith =
  (topK: number) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
    moeMlp(
      recording,
      {
        x: input(inputs, 'x'),
        routing: moeRoute(recording, { logits: input(inputs, 'logits') }, { topK, normalize: true }),
        gate: input(inputs, 'gate'),
        up: input(inputs, 'up'),
        down: input(inputs, 'down'),
      },
      { activation: 'silu' },
    );

const layerCase = (rows: number, layer: ExpertLayer, dtype: MeasuredDtype): KernelCase => {
  const { topK, width, hidden } = layer;
  return {
    label: caseLabel(rows, layer, dtype),
    inputs: inputsOf(rows, layer, dtype),
    record: recordWith(topK),
    flops: 6 * rows * topK * width * hidden,
    // h, and for many tokens a row of each expert, are written and read once.
    bytes:
      3 * WEIGHT_BYTES[dtype] * usedExperts(rows, layer) * width * hidden +
      4 * rows * (2 * width + 2 * topK * (hidden + (rows > 8 ? width : 0))),
  };
};

const small = { label: '', experts: 6, topK: 2, width: 24, hidden: 40 };
const sizes = { rows: 9, experts: 6 };

export const moeMlpBench: KernelBench = {
  name: 'moe/moe_mlp',
  verify: {
    inputs: inputsOf(9, small),
    record: recordWith(2),
    expected: (inputs) => {
      const given = (name: string): Float32Array | Uint32Array => values(inputs, name);
      const route = routeReference({ logits: given('logits') }, { ...sizes, topK: 2, normalize: true });
      return reference(
        { x: given('x'), gate: given('gate'), up: given('up'), down: given('down'), ...route },
        { ...sizes, slots: 2, width: 24, hidden: 40, activation: 'silu' },
      );
    },
    rtol: 2e-5,
    atol: 2e-5,
  },
  cases: EXPERT_DTYPES.flatMap((dtype) =>
    EXPERT_LAYERS.flatMap((layer) => [layerCase(1, layer, dtype), layerCase(512, layer, dtype)]),
  ),
};
