import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, reshape, ssdStep } from '@mambalab/kernels';
import { ssdStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

/** x | B | C in one row, as the convolution leaves them. */
const tensors = ({ batch, heads, headDim, groups, stateSize }: Sizes): Record<string, RandomInput> => ({
  xBC: { shape: [batch, heads * headDim + 2 * groups * stateSize], dtype: 'f32' },
  dt: { shape: [batch, heads], dtype: 'f32', shift: -4 },
  A: { shape: [heads], dtype: 'f32', shift: -8 },
  dtBias: { shape: [heads], dtype: 'f32' },
  D: { shape: [heads], dtype: 'f32' },
  state: { shape: [batch, heads, headDim, stateSize], dtype: 'f32' },
});

const recordStep =
  ({ batch, heads, headDim, groups, stateSize }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const inner = heads * headDim;
    const width = groups * stateSize;
    const view = (start: number, size: number, rows: number, perRow: number): TensorRef =>
      reshape(columns(input(inputs, 'xBC'), start, start + size), [batch, rows, perRow]);
    return ssdStep(recording, {
      x: view(0, inner, heads, headDim),
      dt: input(inputs, 'dt'),
      A: input(inputs, 'A'),
      B: view(inner, width, groups, stateSize),
      C: view(inner + width, width, groups, stateSize),
      dtBias: input(inputs, 'dtBias'),
      D: input(inputs, 'D'),
      state: input(inputs, 'state'),
    });
  };

const stepCase = (label: string, sizes: Sizes): KernelCase => {
  const { batch, heads, headDim, groups, stateSize } = sizes;
  return {
    label,
    inputs: tensors(sizes),
    record: recordStep(sizes),
    flops: 5 * batch * heads * headDim * stateSize,
    bytes: 4 * batch * (2 * heads * headDim * (stateSize + 1) + 2 * groups * stateSize + heads),
  };
};

const VERIFIED: Sizes = { batch: 2, heads: 4, headDim: 64, groups: 2, stateSize: 128 };

/** Columns of the (batch, width) input xBC. */
function part(
  inputs: Readonly<Record<string, Float32Array | Uint32Array>>,
  start: number,
  size: number,
  width: number,
): Float32Array {
  const xBC = values(inputs, 'xBC');
  return Float32Array.from(
    { length: VERIFIED.batch * size },
    (_, i) => xBC[Math.floor(i / size) * width + start + (i % size)] ?? NaN,
  );
}

export const ssdStepBench: KernelBench = {
  name: 'ssm/ssd_step',
  verify: {
    inputs: tensors(VERIFIED),
    record: recordStep(VERIFIED),
    expected: (inputs) =>
      reference(
        {
          x: part(inputs, 0, 256, 768),
          B: part(inputs, 256, 256, 768),
          C: part(inputs, 512, 256, 768),
          dt: values(inputs, 'dt'),
          A: values(inputs, 'A'),
          dtBias: values(inputs, 'dtBias'),
          D: values(inputs, 'D'),
          state: values(inputs, 'state'),
        },
        { ...VERIFIED, dtSoftplus: true },
      ).y,
    rtol: 1e-5,
    atol: 2e-5,
  },
  cases: [
    stepCase('130M decode', { batch: 1, heads: 24, headDim: 64, groups: 1, stateSize: 128 }),
    stepCase('2.7B decode', { batch: 1, heads: 80, headDim: 64, groups: 1, stateSize: 128 }),
    stepCase('8B decode', { batch: 1, heads: 128, headDim: 64, groups: 8, stateSize: 128 }),
    stepCase('8B decode batch 64', { batch: 64, heads: 128, headDim: 64, groups: 8, stateSize: 128 }),
  ],
};
