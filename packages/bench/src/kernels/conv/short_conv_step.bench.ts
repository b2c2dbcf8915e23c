import type { Recording, TensorRef } from '@mambalab/kernels';
import { shortConvStep } from '@mambalab/kernels';
import { shortConvStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const TAPS = 3;

const tensors = (batch: number, channels: number): Record<string, RandomInput> => ({
  B: { shape: [batch, channels], dtype: 'f32' },
  C: { shape: [batch, channels], dtype: 'f32' },
  x: { shape: [batch, channels], dtype: 'f32' },
  weight: { shape: [channels, TAPS], dtype: 'f32' },
  state: { shape: [batch, TAPS - 1, channels], dtype: 'f32' },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  shortConvStep(recording, {
    B: input(inputs, 'B'),
    C: input(inputs, 'C'),
    x: input(inputs, 'x'),
    weight: input(inputs, 'weight'),
    state: input(inputs, 'state'),
  });

const stepCase = (label: string, batch: number, channels: number): KernelCase => ({
  label,
  inputs: tensors(batch, channels),
  record,
  flops: (2 * TAPS + 2) * batch * channels,
  bytes: 4 * channels * (2 * batch * (TAPS + 1) + TAPS),
});

export const shortConvStepBench: KernelBench = {
  name: 'conv/short_conv_step',
  verify: {
    inputs: tensors(3, 260),
    record,
    expected: (inputs) =>
      reference(
        {
          B: values(inputs, 'B'),
          C: values(inputs, 'C'),
          x: values(inputs, 'x'),
          weight: values(inputs, 'weight'),
          state: values(inputs, 'state'),
        },
        { batch: 3, channels: 260, width: TAPS },
      ).y,
    rtol: 4e-6,
    atol: 4e-6,
  },
  cases: [
    stepCase('LFM2 350M decode', 1, 1024),
    stepCase('LFM2 1.2B decode', 1, 2048),
    stepCase('LFM2 1.2B decode batch 64', 64, 2048),
  ],
};
