import { shortConv } from '@mambalab/kernels';
import { shortConv as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const TAPS = 3;

const tensors = (batch: number, length: number, channels: number): Record<string, RandomInput> => ({
  B: { shape: [batch, length, channels], dtype: 'f32' },
  C: { shape: [batch, length, channels], dtype: 'f32' },
  x: { shape: [batch, length, channels], dtype: 'f32' },
  weight: { shape: [channels, TAPS], dtype: 'f32' },
  state: { shape: [batch, TAPS - 1, channels], dtype: 'f32' },
});

const record = (
  recording: Parameters<KernelCase['record']>[0],
  inputs: Parameters<KernelCase['record']>[1],
): ReturnType<typeof shortConv> =>
  shortConv(recording, {
    B: input(inputs, 'B'),
    C: input(inputs, 'C'),
    x: input(inputs, 'x'),
    weight: input(inputs, 'weight'),
    state: input(inputs, 'state'),
  });

const convCase = (label: string, length: number, channels: number): KernelCase => ({
  label,
  inputs: tensors(1, length, channels),
  record,
  flops: (2 * TAPS + 2) * length * channels,
  bytes: 4 * channels * (4 * length + TAPS + 2 * (TAPS - 1)),
});

export const shortConvBench: KernelBench = {
  name: 'conv/short_conv',
  verify: {
    inputs: tensors(2, 19, 260),
    record: (recording, inputs) => record(recording, inputs).y,
    expected: (inputs) =>
      reference(
        {
          B: values(inputs, 'B'),
          C: values(inputs, 'C'),
          x: values(inputs, 'x'),
          weight: values(inputs, 'weight'),
          state: values(inputs, 'state'),
        },
        { batch: 2, length: 19, channels: 260, width: TAPS },
      ).y,
    rtol: 4e-6,
    atol: 4e-6,
  },
  cases: [
    convCase('LFM2 350M prefill 2048', 2048, 1024),
    convCase('LFM2 1.2B prefill 2048', 2048, 2048),
    convCase('LFM2 1.2B prefill 4096', 4096, 2048),
  ],
};
