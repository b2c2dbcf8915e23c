import type { Recording, TensorRef } from '@mambalab/kernels';
import { expertMatmul, moeSort } from '@mambalab/kernels';
import { expertMatmul as reference } from '@mambalab/kernels/reference';
import type { KernelBench } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';
import { EXPERT_DTYPES, EXPERT_LAYERS, productCase, productInputs, routingOf } from './experts.ts';

/** The sorting of the pairs is a part of what is timed. */
const recordWith =
  (experts: number) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const routing = routingOf(inputs);
    const sorted = { ...routing, ...moeSort(recording, routing, { experts }) };
    return expertMatmul(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight'), routing: sorted });
  };

const small = { label: '', experts: 5, topK: 2, width: 40, hidden: 66 };

export const expertMatmulBench: KernelBench = {
  name: 'moe/expert_matmul',
  verify: {
    inputs: productInputs(11, small),
    record: recordWith(5),
    expected: (inputs) =>
      reference(
        { x: values(inputs, 'x'), weight: values(inputs, 'weight'), indices: values(inputs, 'indices') },
        { rows: 11, slots: 2, experts: 5, inner: 40, outputs: 66 },
      ),
    rtol: 1e-5,
    atol: 1e-4,
  },
  cases: EXPERT_DTYPES.flatMap((dtype) =>
    EXPERT_LAYERS.map((layer) => productCase(512, layer, recordWith(layer.experts), dtype)),
  ),
};
