import type { Recording, TensorRef } from '@mambalab/kernels';
import { rope } from '@mambalab/kernels';
import { rope as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
}

const tensors = ({ length, heads, headDim }: Sizes): Record<string, RandomInput> => ({
  x: { shape: [1, length, heads, headDim], dtype: 'f32' },
  inverseFrequencies: { shape: [headDim / 2], dtype: 'f32' },
});

const recordRope = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  rope(recording, { x: input(inputs, 'x'), inverseFrequencies: input(inputs, 'inverseFrequencies') });

const ropeCase = (label: string, sizes: Sizes): KernelCase => ({
  label,
  inputs: tensors(sizes),
  record: recordRope,
  flops: 3 * sizes.length * sizes.heads * sizes.headDim,
  bytes: 8 * sizes.length * sizes.heads * sizes.headDim,
});

const verified: Sizes = { length: 5, heads: 3, headDim: 64 };

export const ropeBench: KernelBench = {
  name: 'attention/rope',
  verify: {
    inputs: tensors(verified),
    record: recordRope,
    expected: (inputs) =>
      reference(
        { x: values(inputs, 'x') },
        { batch: 1, ...verified, inverseFrequencies: values(inputs, 'inverseFrequencies') },
      ),
    rtol: 2e-6,
    atol: 5e-6,
  },
  cases: [
    ropeCase('Llama 1B decode', { length: 1, heads: 32, headDim: 64 }),
    ropeCase('Llama 1B prefill 2048', { length: 2048, heads: 32, headDim: 64 }),
    ropeCase('8B hybrid prefill 4096', { length: 4096, heads: 32, headDim: 128 }),
  ],
};
