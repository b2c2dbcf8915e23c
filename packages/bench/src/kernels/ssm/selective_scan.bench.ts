import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, reshape, selectiveScan } from '@mambalab/kernels';
import { selectiveScan as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly channels: number;
  readonly stateSize: number;
}

/** B | C in one row, as x_proj writes them. */
const tensors = ({ length, channels, stateSize }: Sizes): Record<string, RandomInput> => ({
  u: { shape: [1, length, channels], dtype: 'f32' },
  dt: { shape: [1, length, channels], dtype: 'f32', shift: -4 },
  A: { shape: [channels, stateSize], dtype: 'f32', shift: -8 },
  BC: { shape: [length, 2 * stateSize], dtype: 'f32' },
  D: { shape: [channels], dtype: 'f32' },
  z: { shape: [1, length, channels], dtype: 'f32' },
  state: { shape: [1, channels, stateSize], dtype: 'f32' },
});

const scan = (
  recording: Recording,
  inputs: Readonly<Record<string, TensorRef>>,
  { length, stateSize }: Sizes,
  chunkLength?: number,
): TensorRef => {
  const view = (start: number): TensorRef =>
    reshape(columns(input(inputs, 'BC'), start, start + stateSize), [1, length, 1, stateSize]);
  const { y } = selectiveScan(
    recording,
    {
      u: input(inputs, 'u'),
      dt: input(inputs, 'dt'),
      A: input(inputs, 'A'),
      B: view(0),
      C: view(stateSize),
      D: input(inputs, 'D'),
      z: input(inputs, 'z'),
      state: input(inputs, 'state'),
    },
    chunkLength === undefined ? {} : { chunkLength },
  );
  return y;
};

const scanCase = (label: string, sizes: Sizes, chunkLength?: number): KernelCase => {
  const { length, channels, stateSize } = sizes;
  return {
    label: chunkLength === undefined ? label : `${label}, Q ${chunkLength}`,
    inputs: tensors(sizes),
    record: (recording, inputs) => scan(recording, inputs, sizes, chunkLength),
    // An exponential counts as one; chunks walk every token twice, which is not counted.
    flops: 7 * length * channels * stateSize,
    bytes: 4 * (length * (4 * channels + 2 * stateSize) + 3 * channels * stateSize),
  };
};

const VERIFIED: Sizes = { length: 70, channels: 40, stateSize: 16 };
const M130 = { channels: 1536, stateSize: 16 };
const B2_8 = { channels: 5120, stateSize: 16 };
/** Falcon Mamba. */
const B7 = { channels: 8192, stateSize: 16 };

export const selectiveScanBench: KernelBench = {
  name: 'ssm/selective_scan',
  verify: {
    inputs: tensors(VERIFIED),
    record: (recording, inputs) => scan(recording, inputs, VERIFIED, 32),
    expected: (inputs) => {
      const { length, channels, stateSize } = VERIFIED;
      const BC = values(inputs, 'BC');
      const part = (start: number): Float32Array =>
        Float32Array.from(
          { length: length * stateSize },
          (_, i) => BC[2 * stateSize * Math.floor(i / stateSize) + start + (i % stateSize)] ?? NaN,
        );
      return reference(
        {
          u: values(inputs, 'u'),
          dt: values(inputs, 'dt'),
          A: values(inputs, 'A'),
          B: part(0),
          C: part(stateSize),
          D: values(inputs, 'D'),
          z: values(inputs, 'z'),
          state: values(inputs, 'state'),
        },
        { batch: 1, length, channels, stateSize, dtSoftplus: true },
      ).y;
    },
    rtol: 1e-4,
    atol: 1e-4,
  },
  cases: [
    scanCase('130M prefill 2048', { length: 2048, ...M130 }),
    scanCase('2.8B prefill 2048', { length: 2048, ...B2_8 }),
    scanCase('7B prefill 2048', { length: 2048, ...B7 }),
    scanCase('130M prefill 512', { length: 512, ...M130 }),
    // One chunk against several, for the choice in the host half.
    ...[2048, 512, 256, 128].flatMap((chunkLength) => [
      scanCase('130M prefill 2048', { length: 2048, ...M130 }, chunkLength),
      scanCase('2.8B prefill 2048', { length: 2048, ...B2_8 }, chunkLength),
    ]),
  ],
};
