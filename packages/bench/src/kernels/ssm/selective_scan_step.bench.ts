import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, reshape, selectiveScanStep } from '@mambalab/kernels';
import { selectiveScanStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly batch: number;
  readonly channels: number;
  readonly stateSize: number;
}

/** B | C in one row, as x_proj writes them. */
const tensors = ({ batch, channels, stateSize }: Sizes): Record<string, RandomInput> => ({
  u: { shape: [batch, channels], dtype: 'f32' },
  dt: { shape: [batch, channels], dtype: 'f32', shift: -4 },
  A: { shape: [channels, stateSize], dtype: 'f32', shift: -8 },
  BC: { shape: [batch, 2 * stateSize], dtype: 'f32' },
  D: { shape: [channels], dtype: 'f32' },
  z: { shape: [batch, channels], dtype: 'f32' },
  state: { shape: [batch, channels, stateSize], dtype: 'f32' },
});

const recordStep =
  ({ batch, stateSize }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const view = (start: number): TensorRef =>
      reshape(columns(input(inputs, 'BC'), start, start + stateSize), [batch, 1, stateSize]);
    return selectiveScanStep(recording, {
      u: input(inputs, 'u'),
      dt: input(inputs, 'dt'),
      A: input(inputs, 'A'),
      B: view(0),
      C: view(stateSize),
      D: input(inputs, 'D'),
      z: input(inputs, 'z'),
      state: input(inputs, 'state'),
    });
  };

const stepCase = (label: string, sizes: Sizes): KernelCase => {
  const { batch, channels, stateSize } = sizes;
  return {
    label,
    inputs: tensors(sizes),
    record: recordStep(sizes),
    flops: 7 * batch * channels * stateSize,
    bytes: 4 * (batch * (2 * channels * stateSize + 4 * channels + 2 * stateSize) + channels * stateSize),
  };
};

const VERIFIED: Sizes = { batch: 2, channels: 40, stateSize: 16 };

/** Columns of the (batch, 2 N) input BC. */
function part(inputs: Readonly<Record<string, Float32Array | Uint32Array>>, start: number): Float32Array {
  const BC = values(inputs, 'BC');
  return Float32Array.from({ length: 32 }, (_, i) => BC[32 * Math.floor(i / 16) + start + (i % 16)] ?? NaN);
}

export const selectiveScanStepBench: KernelBench = {
  name: 'ssm/selective_scan_step',
  verify: {
    inputs: tensors(VERIFIED),
    record: recordStep(VERIFIED),
    expected: (inputs) =>
      reference(
        {
          u: values(inputs, 'u'),
          dt: values(inputs, 'dt'),
          A: values(inputs, 'A'),
          B: part(inputs, 0),
          C: part(inputs, 16),
          D: values(inputs, 'D'),
          z: values(inputs, 'z'),
          state: values(inputs, 'state'),
        },
        { ...VERIFIED, dtSoftplus: true },
      ).y,
    rtol: 1e-5,
    atol: 2e-5,
  },
  cases: [
    stepCase('130M decode', { batch: 1, channels: 1536, stateSize: 16 }),
    stepCase('2.8B decode', { batch: 1, channels: 5120, stateSize: 16 }),
    stepCase('7B decode', { batch: 1, channels: 8192, stateSize: 16 }),
    stepCase('7B decode, batch 64', { batch: 64, channels: 8192, stateSize: 16 }),
  ],
};
