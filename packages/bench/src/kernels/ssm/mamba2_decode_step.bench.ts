import type { Recording, TensorRef } from '@mambalab/kernels';
import { mamba2DecodeStep } from '@mambalab/kernels';
import { mamba2DecodeStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype, RandomInput } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, values, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly batch: number;
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
  readonly normGroups: number;
}

const TAPS = 4;

function widths({ heads, headDim, groups, stateSize }: Sizes): { inner: number; channels: number; outputs: number } {
  const inner = heads * headDim;
  const channels = inner + 2 * groups * stateSize;
  return { inner, channels, outputs: inner + channels + heads };
}

/** Scaled so that every intermediate is of the order of 1. */
function tensors(sizes: Sizes, dtype: MeasuredDtype = 'f16'): Record<string, RandomInput> {
  const { batch, hidden, heads, headDim, stateSize } = sizes;
  const { inner, channels, outputs } = widths(sizes);
  return {
    x: { shape: [batch, hidden], dtype: 'f32' },
    normWeight: { shape: [hidden], dtype: 'f32' },
    inWeight: { shape: [outputs, hidden], dtype, matrix: true, scale: 1 / Math.sqrt(hidden) },
    convWeight: { shape: [channels, TAPS], dtype: 'f32', scale: 0.5 },
    convBias: { shape: [channels], dtype: 'f32' },
    convState: { shape: [batch, TAPS - 1, channels], dtype: 'f32' },
    A: { shape: [heads], dtype: 'f32', shift: -8 },
    dtBias: { shape: [heads], dtype: 'f32', shift: -4 },
    D: { shape: [heads], dtype: 'f32' },
    state: { shape: [batch, heads, headDim, stateSize], dtype: 'f32', scale: 0.3 },
    gateNorm: { shape: [inner], dtype: 'f32' },
    outWeight: { shape: [hidden, inner], dtype, matrix: true, scale: 1 / Math.sqrt(inner) },
  };
}

const recordStep =
  ({ groups, normGroups }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
    mamba2DecodeStep(
      recording,
      {
        x: input(inputs, 'x'),
        normWeight: input(inputs, 'normWeight'),
        inWeight: input(inputs, 'inWeight'),
        convWeight: input(inputs, 'convWeight'),
        convBias: input(inputs, 'convBias'),
        convState: input(inputs, 'convState'),
        A: input(inputs, 'A'),
        dtBias: input(inputs, 'dtBias'),
        D: input(inputs, 'D'),
        state: input(inputs, 'state'),
        gateNorm: input(inputs, 'gateNorm'),
        outWeight: input(inputs, 'outWeight'),
      },
      { groups, normGroups },
    );

function stepCase(label: string, sizes: Sizes, dtype: MeasuredDtype = 'f16'): KernelCase {
  const { batch, hidden, stateSize } = sizes;
  const { inner, channels, outputs } = widths(sizes);
  const weights = hidden * (outputs + inner);
  return {
    label: `${label}${dtypeLabel(dtype)}`,
    inputs: tensors(sizes, dtype),
    record: recordStep(sizes),
    flops: batch * (2 * weights + 2 * TAPS * channels + 5 * inner * stateSize),
    bytes:
      WEIGHT_BYTES[dtype] * weights +
      8 * batch * inner * stateSize +
      4 * batch * (2 * hidden + 2 * outputs + 2 * TAPS * channels),
  };
}

const VERIFIED: Sizes = { batch: 2, hidden: 64, heads: 4, headDim: 32, groups: 2, stateSize: 64, normGroups: 2 };

const SIZES_2_7B: Sizes = {
  batch: 1,
  hidden: 2560,
  heads: 80,
  headDim: 64,
  groups: 1,
  stateSize: 128,
  normGroups: 1,
};

const SIZES_8B: Sizes = {
  batch: 1,
  hidden: 4096,
  heads: 128,
  headDim: 64,
  groups: 8,
  stateSize: 128,
  normGroups: 8,
};

export const mamba2DecodeStepBench: KernelBench = {
  name: 'ssm/mamba2_decode_step',
  verify: {
    inputs: tensors(VERIFIED),
    record: recordStep(VERIFIED),
    expected: (inputs) =>
      reference(
        {
          x: values(inputs, 'x'),
          normWeight: values(inputs, 'normWeight'),
          inWeight: values(inputs, 'inWeight'),
          convWeight: values(inputs, 'convWeight'),
          convBias: values(inputs, 'convBias'),
          convState: values(inputs, 'convState'),
          A: values(inputs, 'A'),
          dtBias: values(inputs, 'dtBias'),
          D: values(inputs, 'D'),
          state: values(inputs, 'state'),
          gateNorm: values(inputs, 'gateNorm'),
          outWeight: values(inputs, 'outWeight'),
        },
        { ...VERIFIED, taps: TAPS },
      ).y,
    rtol: 2e-5,
    atol: 5e-5,
  },
  cases: [
    stepCase('130M decode', {
      batch: 1,
      hidden: 768,
      heads: 24,
      headDim: 64,
      groups: 1,
      stateSize: 128,
      normGroups: 1,
    }),
    stepCase('1.3B decode', {
      batch: 1,
      hidden: 2048,
      heads: 64,
      headDim: 64,
      groups: 1,
      stateSize: 128,
      normGroups: 1,
    }),
    ...(['f16', 'q8', 'q4'] as const).flatMap((dtype) => [
      stepCase('2.7B decode', SIZES_2_7B, dtype),
      stepCase('8B decode', SIZES_8B, dtype),
    ]),
  ],
};
