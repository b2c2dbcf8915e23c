import { causalConv1d } from '@mambalab/kernels';
import { causalConv1d as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const TAPS = 4;

const tensors = (batch: number, length: number, channels: number): Record<string, RandomInput> => ({
  x: { shape: [batch, length, channels], dtype: 'f32' },
  weight: { shape: [channels, TAPS], dtype: 'f32' },
  bias: { shape: [channels], dtype: 'f32' },
  state: { shape: [batch, TAPS - 1, channels], dtype: 'f32' },
});

const record: KernelCase['record'] = (recording, inputs) =>
  causalConv1d(
    recording,
    {
      x: input(inputs, 'x'),
      weight: input(inputs, 'weight'),
      bias: input(inputs, 'bias'),
      state: input(inputs, 'state'),
    },
    { activation: 'silu' },
  );

const convCase = (label: string, length: number, channels: number): KernelCase => ({
  label,
  inputs: tensors(1, length, channels),
  record,
  // The activation counts as four.
  flops: (2 * TAPS + 4) * length * channels,
  bytes: 4 * channels * (2 * length + TAPS + 1 + 2 * (TAPS - 1)),
});

/** Sequences packed one after another: all tokens of one, since ids cost the same whatever they are. */
const packedCase = (label: string, length: number, channels: number): KernelCase => {
  const { state: _, ...inputs } = tensors(1, length, channels);
  return {
    ...convCase(label, length, channels),
    inputs: { ...inputs, sequenceIds: { shape: [1, length], dtype: 'i32', below: 1 } },
    record: (recording, refs) =>
      causalConv1d(
        recording,
        {
          x: input(refs, 'x'),
          weight: input(refs, 'weight'),
          bias: input(refs, 'bias'),
          sequenceIds: input(refs, 'sequenceIds'),
        },
        { activation: 'silu' },
      ),
  };
};

export const causalConv1dBench: KernelBench = {
  name: 'conv/causal_conv1d',
  verify: {
    inputs: tensors(2, 19, 260),
    record: (recording, inputs) =>
      causalConv1d(
        recording,
        {
          x: input(inputs, 'x'),
          weight: input(inputs, 'weight'),
          bias: input(inputs, 'bias'),
          state: input(inputs, 'state'),
        },
        { activation: 'silu' },
      ).y,
    expected: (inputs) =>
      reference(
        {
          x: values(inputs, 'x'),
          weight: values(inputs, 'weight'),
          bias: values(inputs, 'bias'),
          state: values(inputs, 'state'),
        },
        { batch: 2, length: 19, channels: 260, width: TAPS, activation: 'silu' },
      ).y,
    rtol: 2e-6,
    atol: 2e-6,
  },
  cases: [
    convCase('130M prefill 2048', 2048, 1792),
    convCase('2.7B prefill 2048', 2048, 5376),
    convCase('8B prefill 2048', 2048, 10240),
    convCase('130M prefill 4096', 4096, 1792),
    convCase('2.7B prefill 4096', 4096, 5376),
    convCase('8B prefill 4096', 4096, 10240),
    packedCase('8B packed 4096', 4096, 10240),
  ],
};
