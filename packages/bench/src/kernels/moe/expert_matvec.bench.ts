import { expertMatvec } from '@mambalab/kernels';
import { expertMatvec as reference } from '@mambalab/kernels/reference';
import type { KernelBench } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';
import { EXPERT_DTYPES, EXPERT_LAYERS, productCase, productInputs, routingOf } from './experts.ts';

const record: KernelBench['verify']['record'] = (recording, inputs) =>
  expertMatvec(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight'), routing: routingOf(inputs) });

const small = { label: '', experts: 5, topK: 2, width: 40, hidden: 21 };

export const expertMatvecBench: KernelBench = {
  name: 'moe/expert_matvec',
  verify: {
    inputs: productInputs(2, small),
    record,
    expected: (inputs) =>
      reference(
        { x: values(inputs, 'x'), weight: values(inputs, 'weight'), indices: values(inputs, 'indices') },
        { rows: 2, slots: 2, experts: 5, inner: 40, outputs: 21 },
      ),
    rtol: 1e-5,
    atol: 1e-4,
  },
  cases: EXPERT_DTYPES.flatMap((dtype) => EXPERT_LAYERS.map((layer) => productCase(1, layer, record, dtype))),
};
