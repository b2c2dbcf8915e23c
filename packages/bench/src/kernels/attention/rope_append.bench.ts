import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, reshape, ropeAppend } from '@mambalab/kernels';
import { ropeAppend as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly capacity: number;
}

const tensors = (
  { length, heads, kvHeads, headDim, capacity }: Sizes,
  cache: 'f32' | 'f16',
): Record<string, RandomInput> => ({
  qkv: { shape: [length, (heads + 2 * kvHeads) * headDim], dtype: 'f32' },
  inverseFrequencies: { shape: [headDim / 2], dtype: 'f32' },
  position: { shape: [1], dtype: 'u32', below: 1 },
  keyCache: { shape: [1, capacity, kvHeads, headDim], dtype: cache },
  valueCache: { shape: [1, capacity, kvHeads, headDim], dtype: cache },
});

const recordAppend =
  ({ length, heads, kvHeads, headDim }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const part = (from: number, count: number): TensorRef =>
      reshape(columns(input(inputs, 'qkv'), from * headDim, (from + count) * headDim), [1, length, count, headDim]);
    return ropeAppend(recording, {
      q: part(0, heads),
      k: part(heads, kvHeads),
      v: part(heads + kvHeads, kvHeads),
      inverseFrequencies: input(inputs, 'inverseFrequencies'),
      position: input(inputs, 'position'),
      keyCache: input(inputs, 'keyCache'),
      valueCache: input(inputs, 'valueCache'),
      ...('qWeight' in inputs && { qWeight: input(inputs, 'qWeight'), kWeight: input(inputs, 'kWeight') }),
    });
  };

const appendCase = (label: string, sizes: Sizes): KernelCase => {
  const { length, heads, kvHeads, headDim } = sizes;
  return {
    label,
    inputs: tensors(sizes, 'f16'),
    record: recordAppend(sizes),
    flops: 3 * length * (heads + kvHeads) * headDim,
    bytes: length * headDim * (8 * heads + 2 * 6 * kvHeads),
  };
};

/** With the norms of queries and keys of Qwen3. */
const withNorms = (label: string, sizes: Sizes): KernelCase => {
  const plain = appendCase(label, sizes);
  const weight: RandomInput = { shape: [sizes.headDim], dtype: 'f32' };
  return {
    ...plain,
    inputs: { ...plain.inputs, qWeight: weight, kWeight: weight },
    record: recordAppend(sizes),
    flops: 2 * plain.flops,
  };
};

const verified: Sizes = { length: 5, heads: 4, kvHeads: 2, headDim: 16, capacity: 8 };

export const ropeAppendBench: KernelBench = {
  name: 'attention/rope_append',
  verify: {
    inputs: tensors(verified, 'f32'),
    record: recordAppend(verified),
    expected: (inputs) => {
      const { length, heads, kvHeads, headDim } = verified;
      const qkv = values(inputs, 'qkv');
      const width = (heads + 2 * kvHeads) * headDim;
      const part = (from: number, count: number): number[] =>
        Array.from({ length }, (_, l) => [
          ...qkv.subarray(l * width + from * headDim, l * width + (from + count) * headDim),
        ]).flat();
      return reference(
        {
          q: part(0, heads),
          k: part(heads, kvHeads),
          v: part(heads + kvHeads, kvHeads),
          inverseFrequencies: values(inputs, 'inverseFrequencies'),
          position: values(inputs, 'position'),
          keyCache: values(inputs, 'keyCache'),
          valueCache: values(inputs, 'valueCache'),
        },
        { batch: 1, ...verified },
      ).rotated;
    },
    rtol: 2e-6,
    atol: 5e-6,
  },
  cases: [
    appendCase('Llama 1B decode', { length: 1, heads: 32, kvHeads: 8, headDim: 64, capacity: 1024 }),
    appendCase('8B hybrid decode', { length: 1, heads: 32, kvHeads: 8, headDim: 128, capacity: 1024 }),
    withNorms('Qwen3 8B decode', { length: 1, heads: 32, kvHeads: 8, headDim: 128, capacity: 1024 }),
    withNorms('Qwen3 8B prefill 2048', { length: 2048, heads: 32, kvHeads: 8, headDim: 128, capacity: 2048 }),
    appendCase('Llama 1B prefill 2048', { length: 2048, heads: 32, kvHeads: 8, headDim: 64, capacity: 2048 }),
    appendCase('8B hybrid prefill 4096', { length: 4096, heads: 32, kvHeads: 8, headDim: 128, capacity: 4096 }),
  ],
};
