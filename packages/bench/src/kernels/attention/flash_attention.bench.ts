import { flashAttention } from '@mambalab/kernels';
import { flashAttention as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, KernelCheck, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const tensors = ({ length, heads, kvHeads, headDim }: Sizes, cache: 'f32' | 'f16'): Record<string, RandomInput> => ({
  q: { shape: [1, length, heads, headDim], dtype: 'f32' },
  k: { shape: [1, length, kvHeads, headDim], dtype: cache },
  v: { shape: [1, length, kvHeads, headDim], dtype: cache },
});

/** A prompt from its beginning: half of all pairs of tokens are visible. */
const prefill = (label: string, sizes: Sizes): KernelCase => {
  const { length, heads, kvHeads, headDim } = sizes;
  return {
    label,
    inputs: tensors(sizes, 'f16'),
    record: (recording, inputs) =>
      flashAttention(recording, { q: input(inputs, 'q'), k: input(inputs, 'k'), v: input(inputs, 'v') }),
    flops: 2 * length * (length + 1) * heads * headDim,
    bytes: length * headDim * (8 * heads + 4 * kvHeads),
  };
};

/** With sinks, slopes and a gate, which add nothing to what must be read but the gate. */
const withTerms = (label: string, sizes: Sizes): KernelCase => {
  const { length, heads, headDim } = sizes;
  const plain = prefill(label, sizes);
  const perHead: RandomInput = { shape: [heads], dtype: 'f32' };
  return {
    ...plain,
    inputs: {
      ...plain.inputs,
      slopes: { ...perHead, scale: 0.01 },
      sinks: perHead,
      gate: { shape: [1, length, heads, headDim], dtype: 'f32' },
    },
    record: (recording, inputs) =>
      flashAttention(recording, {
        q: input(inputs, 'q'),
        k: input(inputs, 'k'),
        v: input(inputs, 'v'),
        slopes: input(inputs, 'slopes'),
        sinks: input(inputs, 'sinks'),
        gate: input(inputs, 'gate'),
      }),
    bytes: plain.bytes + 4 * length * heads * headDim,
  };
};

const check = (sizes: Sizes, tolerance: number): KernelCheck => ({
  inputs: tensors(sizes, 'f16'),
  record: (recording, inputs) =>
    flashAttention(recording, { q: input(inputs, 'q'), k: input(inputs, 'k'), v: input(inputs, 'v') }),
  expected: (inputs) =>
    reference(
      { q: values(inputs, 'q'), k: values(inputs, 'k'), v: values(inputs, 'v') },
      { batch: 1, ...sizes, capacity: sizes.length },
    ),
  rtol: tolerance,
  atol: tolerance,
});

export const flashAttentionBench: KernelBench = {
  name: 'attention/flash_attention',
  verify: check({ length: 30, heads: 4, kvHeads: 2, headDim: 64 }, 1e-5),
  // Long enough for matrix units, which round queries and weights to f16.
  verifyAlso: [
    check({ length: 45, heads: 4, kvHeads: 2, headDim: 64 }, 5e-3),
    check({ length: 150, heads: 2, kvHeads: 1, headDim: 128 }, 5e-3),
  ],
  cases: [
    prefill('Llama 1B prefill 2048', { length: 2048, heads: 32, kvHeads: 8, headDim: 64 }),
    withTerms('Llama 1B prefill 2048, slopes, sinks and gate', { length: 2048, heads: 32, kvHeads: 8, headDim: 64 }),
    prefill('Llama 1B prefill 4096', { length: 4096, heads: 32, kvHeads: 8, headDim: 64 }),
    prefill('8B hybrid prefill 2048', { length: 2048, heads: 32, kvHeads: 8, headDim: 128 }),
    prefill('8B hybrid prefill 4096', { length: 4096, heads: 32, kvHeads: 8, headDim: 128 }),
    prefill('8B hybrid prefill 16384', { length: 16_384, heads: 32, kvHeads: 8, headDim: 128 }),
  ],
};
