import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, gatedDeltaStep, reshape } from '@mambalab/kernels';
import { gatedDeltaStep as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly batch: number;
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

const GATES = { l2Norm: true, betaSigmoid: true } as const;

/** q | k | v in one row, as the convolution leaves them. */
const tensors = ({ batch, keyHeads, valueHeads, keyDim, valueDim }: Sizes): Record<string, RandomInput> => ({
  qkv: { shape: [batch, 2 * keyHeads * keyDim + valueHeads * valueDim], dtype: 'f32' },
  g: { shape: [batch, valueHeads], dtype: 'f32', shift: -4 },
  beta: { shape: [batch, valueHeads], dtype: 'f32' },
  A: { shape: [valueHeads], dtype: 'f32', shift: -8 },
  dtBias: { shape: [valueHeads], dtype: 'f32' },
  state: { shape: [batch, valueHeads, keyDim, valueDim], dtype: 'f32' },
});

const record =
  ({ batch, keyHeads, valueHeads, keyDim, valueDim }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const width = keyHeads * keyDim;
    const view = (from: number, heads: number, size: number): TensorRef =>
      reshape(columns(input(inputs, 'qkv'), from, from + heads * size), [batch, heads, size]);
    const tensor = (name: string): TensorRef => input(inputs, name);
    return gatedDeltaStep(
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

const stepCase = (label: string, sizes: Sizes): KernelCase => {
  const { batch, keyHeads, valueHeads, keyDim, valueDim } = sizes;
  return {
    label,
    inputs: tensors(sizes),
    record: record(sizes),
    flops: 7 * batch * valueHeads * keyDim * valueDim,
    bytes: 4 * batch * (2 * valueHeads * (keyDim * valueDim + valueDim + 1) + 2 * keyHeads * keyDim),
  };
};

const VERIFIED: Sizes = { batch: 2, keyHeads: 2, valueHeads: 4, keyDim: 128, valueDim: 32 };

/** Columns of the input qkv. */
function part(qkv: ArrayLike<number>, from: number, size: number): Float32Array {
  const width = qkv.length / VERIFIED.batch;
  return Float32Array.from(
    { length: VERIFIED.batch * size },
    (_, i) => qkv[Math.floor(i / size) * width + from + (i % size)] ?? NaN,
  );
}

export const gatedDeltaStepBench: KernelBench = {
  name: 'delta/gated_delta_step',
  verify: {
    inputs: tensors(VERIFIED),
    record: record(VERIFIED),
    expected: (inputs) => {
      const qkv = values(inputs, 'qkv');
      return reference(
        {
          q: part(qkv, 0, 256),
          k: part(qkv, 256, 256),
          v: part(qkv, 512, 128),
          g: values(inputs, 'g'),
          beta: values(inputs, 'beta'),
          A: values(inputs, 'A'),
          dtBias: values(inputs, 'dtBias'),
          state: values(inputs, 'state'),
        },
        { ...VERIFIED, ...GATES },
      ).y;
    },
    rtol: 1e-5,
    atol: 1e-5,
  },
  cases: [
    stepCase('Qwen3-Next decode', { batch: 1, keyHeads: 16, valueHeads: 32, keyDim: 128, valueDim: 128 }),
    stepCase('Qwen3-Next decode batch 64', { batch: 64, keyHeads: 16, valueHeads: 32, keyDim: 128, valueDim: 128 }),
    stepCase('OLMo-Hybrid 7B decode', { batch: 1, keyHeads: 30, valueHeads: 30, keyDim: 96, valueDim: 192 }),
  ],
};
