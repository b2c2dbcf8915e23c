import type { Recording, TensorRef } from '@mambalab/kernels';
import { causalConv1dStep } from '@mambalab/kernels';
import { causalConv1dStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const TAPS = 4;

const tensors = (batch: number, channels: number): Record<string, RandomInput> => ({
  x: { shape: [batch, channels], dtype: 'f32' },
  weight: { shape: [channels, TAPS], dtype: 'f32' },
  bias: { shape: [channels], dtype: 'f32' },
  state: { shape: [batch, TAPS - 1, channels], dtype: 'f32' },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  causalConv1dStep(
    recording,
    {
      x: input(inputs, 'x'),
      weight: input(inputs, 'weight'),
      bias: input(inputs, 'bias'),
      state: input(inputs, 'state'),
    },
    { activation: 'silu' },
  );

const stepCase = (label: string, batch: number, channels: number): KernelCase => ({
  label,
  inputs: tensors(batch, channels),
  record,
  flops: (2 * TAPS + 4) * batch * channels,
  bytes: 4 * channels * (2 * batch * TAPS + TAPS + 1),
});

export const causalConv1dStepBench: KernelBench = {
  name: 'conv/causal_conv1d_step',
  verify: {
    inputs: tensors(3, 260),
    record,
    expected: (inputs) =>
      reference(
        {
          x: values(inputs, 'x'),
          weight: values(inputs, 'weight'),
          bias: values(inputs, 'bias'),
          state: values(inputs, 'state'),
        },
        { batch: 3, channels: 260, width: TAPS, activation: 'silu' },
      ).y,
    rtol: 2e-6,
    atol: 2e-6,
  },
  cases: [
    stepCase('130M decode', 1, 1792),
    stepCase('2.7B decode', 1, 5376),
    stepCase('8B decode', 1, 10240),
    stepCase('8B decode batch 64', 64, 10240),
    stepCase('8B decode batch 256', 256, 10240),
  ],
};
