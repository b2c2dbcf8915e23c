import type { QkNormResult, Recording, TensorRef } from '@mambalab/kernels';
import { columns, qkNorm, reshape } from '@mambalab/kernels';
import { qkNorm as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const tensors = ({ length, heads, kvHeads, headDim }: Sizes): Record<string, RandomInput> => ({
  qkv: { shape: [length, (heads + 2 * kvHeads) * headDim], dtype: 'f32' },
  qWeight: { shape: [headDim], dtype: 'f32' },
  kWeight: { shape: [headDim], dtype: 'f32' },
  inverseFrequencies: { shape: [headDim / 2], dtype: 'f32' },
});

const recordNorm =
  ({ length, heads, kvHeads, headDim }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): QkNormResult => {
    const part = (from: number, count: number): TensorRef =>
      reshape(columns(input(inputs, 'qkv'), from * headDim, (from + count) * headDim), [1, length, count, headDim]);
    return qkNorm(recording, {
      q: part(0, heads),
      k: part(heads, kvHeads),
      qWeight: input(inputs, 'qWeight'),
      kWeight: input(inputs, 'kWeight'),
      inverseFrequencies: input(inputs, 'inverseFrequencies'),
    });
  };

const normCase = (label: string, sizes: Sizes): KernelCase => {
  const count = sizes.length * (sizes.heads + sizes.kvHeads) * sizes.headDim;
  return { label, inputs: tensors(sizes), record: recordNorm(sizes), flops: 7 * count, bytes: 8 * count };
};

const verified: Sizes = { length: 5, heads: 3, kvHeads: 1, headDim: 64 };

export const qkNormBench: KernelBench = {
  name: 'attention/qk_norm',
  verify: {
    inputs: tensors(verified),
    // Queries and keys are one tensor: the harness reads it whole.
    record: (recording, inputs) => {
      const { q } = recordNorm(verified)(recording, inputs);
      const { length, heads, kvHeads, headDim } = verified;
      const shape = [length, (heads + kvHeads) * headDim];
      return { ...q, shape, offset: 0, rowWidth: q.rowStride };
    },
    expected: (inputs) => {
      const { length, heads, kvHeads, headDim } = verified;
      const qkv = values(inputs, 'qkv');
      const width = (heads + 2 * kvHeads) * headDim;
      const part = (from: number, count: number): number[] =>
        Array.from({ length }, (_, l) => [
          ...qkv.subarray(l * width + from * headDim, l * width + (from + count) * headDim),
        ]).flat();
      const [qWeight, kWeight] = [values(inputs, 'qWeight'), values(inputs, 'kWeight')];
      const { q, k } = reference(
        {
          q: part(0, heads),
          k: part(heads, kvHeads),
          qWeight,
          kWeight,
          inverseFrequencies: values(inputs, 'inverseFrequencies'),
        },
        { batch: 1, ...verified },
      );
      return Array.from({ length }, (_, l) => [
        ...q.subarray(l * heads * headDim, (l + 1) * heads * headDim),
        ...k.subarray(l * kvHeads * headDim, (l + 1) * kvHeads * headDim),
      ]).flat();
    },
    rtol: 2e-6,
    atol: 1e-5,
  },
  cases: [
    normCase('Qwen3 0.6B decode', { length: 1, heads: 16, kvHeads: 8, headDim: 128 }),
    normCase('Qwen3 8B decode', { length: 1, heads: 32, kvHeads: 8, headDim: 128 }),
    normCase('Qwen3 0.6B prefill 2048', { length: 2048, heads: 16, kvHeads: 8, headDim: 128 }),
    normCase('Qwen3 8B prefill 4096', { length: 4096, heads: 32, kvHeads: 8, headDim: 128 }),
  ],
};
