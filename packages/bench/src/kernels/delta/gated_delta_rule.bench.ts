import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, gatedDeltaRule, reshape } from '@mambalab/kernels';
import { gatedDeltaRule as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

/** Tokens of a chunk. */
const CHUNK = 64;
const GATES = { l2Norm: true, betaSigmoid: true } as const;

/** q | k | v in one row, as the convolution leaves them. */
const tensors = (length: number, { keyHeads, valueHeads, keyDim, valueDim }: Sizes): Record<string, RandomInput> => ({
  qkv: { shape: [length, 2 * keyHeads * keyDim + valueHeads * valueDim], dtype: 'f32' },
  g: { shape: [1, length, valueHeads], dtype: 'f32', shift: -4 },
  beta: { shape: [1, length, valueHeads], dtype: 'f32' },
  A: { shape: [valueHeads], dtype: 'f32', shift: -8 },
  dtBias: { shape: [valueHeads], dtype: 'f32' },
  state: { shape: [1, valueHeads, keyDim, valueDim], dtype: 'f32' },
});

const record =
  (length: number, { keyHeads, valueHeads, keyDim, valueDim }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): { y: TensorRef; state: TensorRef } => {
    const width = keyHeads * keyDim;
    const view = (from: number, heads: number, size: number): TensorRef =>
      reshape(columns(input(inputs, 'qkv'), from, from + heads * size), [1, length, heads, size]);
    const tensor = (name: string): TensorRef => input(inputs, name);
    return gatedDeltaRule(
      recording,
      {
        q: view(0, keyHeads, keyDim),
        k: view(width, keyHeads, keyDim),
        v: view(2 * width, valueHeads, valueDim),
        g: tensor('g'),
        beta: tensor('beta'),
        A: tensor('A'),
        dtBias: tensor('dtBias'),
        state: tensor('state'),
      },
      GATES,
    );
  };

const ruleCase = (label: string, length: number, sizes: Sizes): KernelCase => {
  const { keyHeads, valueHeads, keyDim, valueDim } = sizes;
  const perHead = 6 * keyDim * valueDim + 2 * CHUNK * valueDim + CHUNK * keyDim;
  return {
    label,
    inputs: tensors(length, sizes),
    record: record(length, sizes),
    flops: length * (valueHeads * perHead + keyHeads * 2 * CHUNK * keyDim),
    bytes:
      4 * (length * (2 * keyHeads * keyDim + 2 * valueHeads * (valueDim + 1)) + 2 * valueHeads * keyDim * valueDim),
  };
};

const VERIFIED: Sizes = { keyHeads: 1, valueHeads: 2, keyDim: 32, valueDim: 16 };
const LENGTH = 70;

/** Columns of the input qkv. */
function part(qkv: ArrayLike<number>, from: number, size: number): Float32Array {
  const width = qkv.length / LENGTH;
  return Float32Array.from(
    { length: LENGTH * size },
    (_, i) => qkv[Math.floor(i / size) * width + from + (i % size)] ?? NaN,
  );
}

const QWEN3_NEXT: Sizes = { keyHeads: 16, valueHeads: 32, keyDim: 128, valueDim: 128 };

export const gatedDeltaRuleBench: KernelBench = {
  name: 'delta/gated_delta_rule',
  verify: {
    inputs: tensors(LENGTH, VERIFIED),
    record: (recording, inputs) => record(LENGTH, VERIFIED)(recording, inputs).y,
    expected: (inputs) => {
      const qkv = values(inputs, 'qkv');
      return reference(
        {
          q: part(qkv, 0, 32),
          k: part(qkv, 32, 32),
          v: part(qkv, 64, 32),
          g: values(inputs, 'g'),
          beta: values(inputs, 'beta'),
          A: values(inputs, 'A'),
          dtBias: values(inputs, 'dtBias'),
          state: values(inputs, 'state'),
        },
        { batch: 1, length: LENGTH, ...VERIFIED, ...GATES },
      ).y;
    },
    rtol: 1e-4,
    atol: 1e-4,
  },
  cases: [
    ruleCase('Qwen3-Next prefill 512', 512, QWEN3_NEXT),
    ruleCase('Qwen3-Next prefill 2048', 2048, QWEN3_NEXT),
    ruleCase('OLMo-Hybrid 7B prefill 2048', 2048, { keyHeads: 30, valueHeads: 30, keyDim: 96, valueDim: 192 }),
  ],
};
