import type { Recording, TensorRef } from '@mambalab/kernels';
import { mamba3Scan } from '@mambalab/kernels';
import { mamba3Scan as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly sharedHeads: number;
  readonly headDim: number;
  readonly stateSize: number;
  readonly rotary: number;
}

const tensors = (sizes: Sizes): Record<string, RandomInput> => {
  const { length, heads, sharedHeads, headDim, stateSize, rotary } = sizes;
  const random = (...shape: number[]): RandomInput => ({ shape, dtype: 'f32' });
  return {
    q: random(1, length, sharedHeads, stateSize),
    k: random(1, length, sharedHeads, stateSize),
    v: random(1, length, heads, headDim),
    dt: { ...random(1, length, heads), scale: 0.02, shift: 0.1 },
    adt: { ...random(1, length, heads), scale: 0.1, shift: -0.8 },
    trap: random(1, length, heads),
    angles: random(1, length, heads, rotary),
    qBias: random(heads, stateSize),
    kBias: random(heads, stateSize),
    D: random(heads),
    z: random(1, length, heads, headDim),
  };
};

const scan = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  mamba3Scan(recording, {
    q: input(inputs, 'q'),
    k: input(inputs, 'k'),
    v: input(inputs, 'v'),
    dt: input(inputs, 'dt'),
    adt: input(inputs, 'adt'),
    trap: input(inputs, 'trap'),
    angles: input(inputs, 'angles'),
    qBias: input(inputs, 'qBias'),
    kBias: input(inputs, 'kBias'),
    D: input(inputs, 'D'),
    z: input(inputs, 'z'),
  }).y;

const scanCase = (label: string, sizes: Sizes): KernelCase => {
  const { length, heads, sharedHeads, headDim, stateSize, rotary } = sizes;
  return {
    label,
    inputs: tensors(sizes),
    record: scan,
    flops: 5 * length * heads * headDim * stateSize,
    bytes:
      4 * length * (2 * sharedHeads * stateSize + heads * (3 * headDim + rotary + 3)) + 4 * heads * headDim * stateSize,
  };
};

const KEYS = { headDim: 64, stateSize: 128, rotary: 32 };
const VERIFIED: Sizes = { length: 20, heads: 2, sharedHeads: 1, headDim: 8, stateSize: 16, rotary: 4 };

export const mamba3ScanBench: KernelBench = {
  name: 'ssm/mamba3_scan',
  verify: {
    inputs: tensors(VERIFIED),
    record: scan,
    expected: (inputs) =>
      reference(
        {
          q: values(inputs, 'q'),
          k: values(inputs, 'k'),
          v: values(inputs, 'v'),
          dt: values(inputs, 'dt'),
          adt: values(inputs, 'adt'),
          trap: values(inputs, 'trap'),
          angles: values(inputs, 'angles'),
          qBias: values(inputs, 'qBias'),
          kBias: values(inputs, 'kBias'),
          D: values(inputs, 'D'),
          z: values(inputs, 'z'),
        },
        { batch: 1, ...VERIFIED },
      ).y,
    rtol: 1e-4,
    atol: 1e-4,
  },
  cases: [
    scanCase('130M prefill 2048', { length: 2048, heads: 24, sharedHeads: 1, ...KEYS }),
    scanCase('2.7B prefill 2048', { length: 2048, heads: 80, sharedHeads: 1, ...KEYS }),
    scanCase('8B prefill 2048', { length: 2048, heads: 128, sharedHeads: 8, ...KEYS }),
    scanCase('8B prefill 512', { length: 512, heads: 128, sharedHeads: 8, ...KEYS }),
  ],
};
