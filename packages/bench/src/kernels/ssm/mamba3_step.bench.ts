import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, mamba3Step, reshape } from '@mambalab/kernels';
import { mamba3Step as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly batch: number;
  readonly heads: number;
  readonly sharedHeads: number;
  readonly headDim: number;
  readonly stateSize: number;
  readonly rotary: number;
}

/** q | k, z | v | angles | trap | dt | adt, and the weights, each in one storage: one dispatch. dt and adt of any sign. */
const tensors = ({ batch, heads, sharedHeads, headDim, stateSize, rotary }: Sizes): Record<string, RandomInput> => ({
  qk: { shape: [batch, 2 * sharedHeads * stateSize], dtype: 'f32' },
  row: { shape: [batch, heads * (2 * headDim + rotary + 3)], dtype: 'f32', scale: 0.5 },
  weights: { shape: [1, heads * (2 * stateSize + 1)], dtype: 'f32' },
  angleState: { shape: [batch, heads, rotary], dtype: 'f32' },
  state: { shape: [batch, heads, headDim, stateSize], dtype: 'f32' },
  kState: { shape: [batch, heads, stateSize], dtype: 'f32' },
  vState: { shape: [batch, heads, headDim], dtype: 'f32' },
});

const recordStep =
  ({ batch, heads, sharedHeads, headDim, stateSize, rotary }: Sizes) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const view = (name: string, start: number, width: number, ...shape: number[]): TensorRef =>
      reshape(columns(input(inputs, name), start, start + width), shape);
    const inner = heads * headDim;
    const keys = sharedHeads * stateSize;
    const scalars = 2 * inner + heads * rotary;
    return mamba3Step(recording, {
      q: view('qk', 0, keys, batch, sharedHeads, stateSize),
      k: view('qk', keys, keys, batch, sharedHeads, stateSize),
      z: view('row', 0, inner, batch, heads, headDim),
      v: view('row', inner, inner, batch, heads, headDim),
      angles: view('row', 2 * inner, heads * rotary, batch, heads, rotary),
      trap: view('row', scalars, heads, batch, heads),
      dt: view('row', scalars + heads, heads, batch, heads),
      adt: view('row', scalars + 2 * heads, heads, batch, heads),
      qBias: view('weights', 0, heads * stateSize, heads, stateSize),
      kBias: view('weights', heads * stateSize, heads * stateSize, heads, stateSize),
      D: view('weights', 2 * heads * stateSize, heads, heads),
      angleState: input(inputs, 'angleState'),
      state: input(inputs, 'state'),
      kState: input(inputs, 'kState'),
      vState: input(inputs, 'vState'),
    });
  };

const stepCase = (label: string, sizes: Sizes): KernelCase => {
  const { batch, heads, headDim, stateSize, rotary } = sizes;
  return {
    label,
    inputs: tensors(sizes),
    record: recordStep(sizes),
    flops: 7 * batch * heads * headDim * stateSize,
    bytes: 4 * batch * heads * (2 * headDim * stateSize + 5 * headDim + 2 * stateSize + 3 * rotary + 3),
  };
};

const KEYS = { headDim: 64, stateSize: 128, rotary: 32 };
const VERIFIED: Sizes = { batch: 1, heads: 2, sharedHeads: 1, headDim: 8, stateSize: 16, rotary: 4 };

export const mamba3StepBench: KernelBench = {
  name: 'ssm/mamba3_step',
  verify: {
    inputs: tensors(VERIFIED),
    record: recordStep(VERIFIED),
    expected: (inputs) => {
      const part = (name: string, start: number, end: number): Float32Array | Uint32Array =>
        values(inputs, name).subarray(start, end);
      return reference(
        {
          q: part('qk', 0, 16),
          k: part('qk', 16, 32),
          z: part('row', 0, 16),
          v: part('row', 16, 32),
          angles: part('row', 32, 40),
          trap: part('row', 40, 42),
          dt: part('row', 42, 44),
          adt: part('row', 44, 46),
          qBias: part('weights', 0, 32),
          kBias: part('weights', 32, 64),
          D: part('weights', 64, 66),
          angleState: values(inputs, 'angleState'),
          state: values(inputs, 'state'),
          kState: values(inputs, 'kState'),
          vState: values(inputs, 'vState'),
        },
        VERIFIED,
      ).y;
    },
    rtol: 1e-4,
    atol: 1e-4,
  },
  cases: [
    stepCase('130M decode', { batch: 1, heads: 24, sharedHeads: 1, ...KEYS }),
    stepCase('2.7B decode', { batch: 1, heads: 80, sharedHeads: 1, ...KEYS }),
    stepCase('8B decode', { batch: 1, heads: 128, sharedHeads: 8, ...KEYS }),
    stepCase('8B decode, batch 32', { batch: 32, heads: 128, sharedHeads: 8, ...KEYS }),
  ],
};
