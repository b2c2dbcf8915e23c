import type { Recording, TensorRef } from '@mambalab/kernels';
import { attentionStep } from '@mambalab/kernels';
import { attentionStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly capacity: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * Positions are random, and nearly always beyond the cache: the kernel then reads all of it. A small `below` makes them
 * small.
 */
const tensors = (
  { capacity, heads, kvHeads, headDim }: Sizes,
  cache: 'f32' | 'f16',
  below: number,
): Record<string, RandomInput> => ({
  q: { shape: [1, heads, headDim], dtype: 'f32' },
  k: { shape: [1, capacity, kvHeads, headDim], dtype: cache },
  v: { shape: [1, capacity, kvHeads, headDim], dtype: cache },
  position: { shape: [1], dtype: 'u32', below },
});

const recordStep = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  attentionStep(recording, {
    q: input(inputs, 'q'),
    k: input(inputs, 'k'),
    v: input(inputs, 'v'),
    position: input(inputs, 'position'),
  });

const decode = (label: string, sizes: Sizes): KernelCase => {
  const { capacity, heads, kvHeads, headDim } = sizes;
  return {
    label,
    inputs: tensors(sizes, 'f16', 2 ** 31),
    record: recordStep,
    flops: 4 * capacity * heads * headDim,
    bytes: 4 * capacity * kvHeads * headDim + 8 * heads * headDim,
  };
};

/** The same cache in pages of 16 tokens, in any order. */
const paged = (label: string, sizes: Sizes): KernelCase => {
  const { capacity, kvHeads, headDim } = sizes;
  const pages = capacity / 16;
  const cache: RandomInput = { shape: [pages, 16, kvHeads, headDim], dtype: 'f16' };
  const plain = decode(label, sizes);
  return {
    ...plain,
    inputs: { ...plain.inputs, k: cache, v: cache, pages: { shape: [1, pages], dtype: 'u32', below: pages } },
    record: (recording, inputs) =>
      attentionStep(recording, {
        q: input(inputs, 'q'),
        k: input(inputs, 'k'),
        v: input(inputs, 'v'),
        position: input(inputs, 'position'),
        pages: input(inputs, 'pages'),
      }),
  };
};

const verified: Sizes = { capacity: 300, heads: 8, kvHeads: 2, headDim: 64 };
const llama = { heads: 32, kvHeads: 8, headDim: 64 };
const hybrid = { heads: 32, kvHeads: 8, headDim: 128 };

export const attentionStepBench: KernelBench = {
  name: 'attention/attention_step',
  verify: {
    inputs: tensors(verified, 'f16', verified.capacity),
    record: recordStep,
    expected: (inputs) =>
      reference(
        {
          q: values(inputs, 'q'),
          k: values(inputs, 'k'),
          v: values(inputs, 'v'),
          position: values(inputs, 'position'),
        },
        { batch: 1, ...verified },
      ),
    rtol: 1e-5,
    atol: 1e-5,
  },
  cases: [
    decode('Llama 1B at 1K', { capacity: 1024, ...llama }),
    decode('Llama 1B at 8K', { capacity: 8192, ...llama }),
    decode('Llama 1B at 32K', { capacity: 32_768, ...llama }),
    paged('Llama 1B at 8K, pages of 16', { capacity: 8192, ...llama }),
    decode('8B hybrid at 1K', { capacity: 1024, ...hybrid }),
    decode('8B hybrid at 8K', { capacity: 8192, ...hybrid }),
    decode('8B hybrid at 32K', { capacity: 32_768, ...hybrid }),
  ],
};
