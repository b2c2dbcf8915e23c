import type { Recording, TensorRef } from '@mambalab/kernels';
import { rope } from '@mambalab/kernels';
import { rope as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  /** headDim when absent */
  readonly rotaryDim?: number;
  readonly interleaved?: boolean;
}

const tensors = ({ length, heads, headDim, rotaryDim = headDim }: Sizes): Record<string, RandomInput> => ({
  x: { shape: [1, length, heads, headDim], dtype: 'f32' },
  inverseFrequencies: { shape: [rotaryDim / 2], dtype: 'f32' },
});

const recordRope =
  ({ interleaved = false }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
    rope(
      recording,
      { x: input(inputs, 'x'), inverseFrequencies: input(inputs, 'inverseFrequencies') },
      { interleaved },
    );

const ropeCase = (label: string, sizes: Sizes): KernelCase => ({
  label,
  inputs: tensors(sizes),
  record: recordRope(sizes),
  flops: 3 * sizes.length * sizes.heads * (sizes.rotaryDim ?? sizes.headDim),
  bytes: 8 * sizes.length * sizes.heads * sizes.headDim,
});

const verified: Sizes = { length: 5, heads: 3, headDim: 64 };

export const ropeBench: KernelBench = {
  name: 'attention/rope',
  verify: {
    inputs: tensors(verified),
    record: recordRope(verified),
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
    ropeCase('heads of 128, 16384', { length: 16_384, heads: 32, headDim: 128 }),
    ropeCase('NeoX heads of 64, 16 rotary, 4096', { length: 4096, heads: 32, headDim: 64, rotaryDim: 16 }),
    ropeCase('interleaved heads of 128, 4096', { length: 4096, heads: 32, headDim: 128, interleaved: true }),
  ],
};
