import { fusedMlp } from '@mambalab/kernels';
import { fusedMlp as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, values, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

const inputsOf = (rows: number, width: number, hidden: number, dtype: MeasuredDtype = 'f16'): KernelCase['inputs'] => ({
  x: { shape: [rows, width], dtype: 'f32' },
  gate: { shape: [hidden, width], dtype, matrix: true, scale: 1 / Math.sqrt(width) },
  up: { shape: [hidden, width], dtype, matrix: true, scale: 1 / Math.sqrt(width) },
  down: { shape: [width, hidden], dtype, matrix: true, scale: 1 / Math.sqrt(hidden) },
});

const recordWith =
  (gated: boolean): KernelBench['verify']['record'] =>
  (recording, inputs) =>
    fusedMlp(
      recording,
      {
        x: input(inputs, 'x'),
        up: input(inputs, 'up'),
        down: input(inputs, 'down'),
        ...(gated && { gate: input(inputs, 'gate') }),
      },
      { activation: gated ? 'silu' : 'relu2' },
    );

const mlpCase = (
  label: string,
  rows: number,
  width: number,
  hidden: number,
  gated: boolean,
  dtype: MeasuredDtype = 'f16',
): KernelCase => {
  const weights = (gated ? 3 : 2) * width * hidden;
  return {
    label: `${label} ${rows === 1 ? 'decode' : `prefill ${rows}`}${dtypeLabel(dtype)}`,
    inputs: inputsOf(rows, width, hidden, dtype),
    record: recordWith(gated),
    flops: 2 * rows * weights,
    // h is written and read once between the two passes.
    bytes: WEIGHT_BYTES[dtype] * weights + 4 * rows * (2 * width + 2 * hidden),
  };
};

export const fusedMlpBench: KernelBench = {
  name: 'mlp/fused_mlp',
  verify: {
    inputs: inputsOf(9, 40, 72),
    record: recordWith(true),
    expected: (inputs) =>
      reference(
        {
          x: values(inputs, 'x'),
          gate: values(inputs, 'gate'),
          up: values(inputs, 'up'),
          down: values(inputs, 'down'),
        },
        { rows: 9, width: 40, hidden: 72, activation: 'silu' },
      ),
    // Matrix units round operands to f16; without them the tests of the kernel hold it to 2e-5.
    rtol: 2e-5,
    atol: 4e-3,
  },
  cases: [
    mlpCase('Llama 1B', 1, 2048, 8192, true),
    mlpCase('8B gated', 1, 4096, 14_336, true),
    mlpCase('8B', 1, 4096, 16_384, false),
    mlpCase('Llama 1B', 512, 2048, 8192, true),
    mlpCase('8B', 512, 4096, 16_384, false),
    ...(['q8', 'q4'] as const).flatMap((dtype) => [
      mlpCase('Llama 1B', 1, 2048, 8192, true, dtype),
      mlpCase('8B gated', 1, 4096, 14_336, true, dtype),
      mlpCase('8B', 1, 4096, 16_384, false, dtype),
      mlpCase('8B', 512, 4096, 16_384, false, dtype),
    ]),
  ],
};
