import type { Recording, TensorRef } from '@mambalab/kernels';
import { ssdChunkScan } from '@mambalab/kernels';
import { ssdScan } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, KernelCheck, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

interface Sizes {
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

const tensors = (length: number, { heads, headDim, groups, stateSize }: Sizes): Record<string, RandomInput> => ({
  x: { shape: [1, length, heads, headDim], dtype: 'f32' },
  dt: { shape: [1, length, heads], dtype: 'f32', shift: -4 },
  A: { shape: [heads], dtype: 'f32', shift: -8 },
  B: { shape: [1, length, groups, stateSize], dtype: 'f32' },
  C: { shape: [1, length, groups, stateSize], dtype: 'f32' },
  dtBias: { shape: [heads], dtype: 'f32' },
  D: { shape: [heads], dtype: 'f32' },
  state: { shape: [1, heads, headDim, stateSize], dtype: 'f32' },
});

const scan = (
  recording: Recording,
  inputs: Readonly<Record<string, TensorRef>>,
  chunkLength: number,
  operands: 'f32' | 'f16' = 'f32',
): { readonly y: TensorRef; readonly state: TensorRef } =>
  ssdChunkScan(
    recording,
    {
      x: input(inputs, 'x'),
      dt: input(inputs, 'dt'),
      A: input(inputs, 'A'),
      B: input(inputs, 'B'),
      C: input(inputs, 'C'),
      dtBias: input(inputs, 'dtBias'),
      D: input(inputs, 'D'),
      state: input(inputs, 'state'),
    },
    { chunkLength, operands },
  );

const scanCase = (
  label: string,
  length: number,
  sizes: Sizes,
  chunkLength = 128,
  operands: 'f32' | 'f16' = 'f32',
): KernelCase => {
  const { heads, headDim, groups, stateSize } = sizes;
  const inner = heads * headDim;
  const perToken =
    // States and what they give to the output; inside the chunk (half a square); scores of each group.
    4 * inner * stateSize + (chunkLength + 1) * inner + (chunkLength + 1) * groups * stateSize;
  return {
    label: `${label}, Q ${chunkLength}, ${operands}`,
    inputs: tensors(length, sizes),
    record: (recording, inputs) => scan(recording, inputs, chunkLength, operands),
    flops: length * perToken,
    bytes: 4 * (length * (2 * inner + 2 * groups * stateSize + heads) + 2 * inner * stateSize),
  };
};

const M130: Sizes = { heads: 24, headDim: 64, groups: 1, stateSize: 128 };
const B2_7: Sizes = { heads: 80, headDim: 64, groups: 1, stateSize: 128 };
const B8: Sizes = { heads: 128, headDim: 64, groups: 8, stateSize: 128 };
const VERIFIED: Sizes = { heads: 4, headDim: 64, groups: 2, stateSize: 128 };

const check = (chunkLength: number, operands: 'f32' | 'f16', rtol: number, atol: number): KernelCheck => ({
  inputs: tensors(150, VERIFIED),
  record: (recording, inputs) => scan(recording, inputs, chunkLength, operands).y,
  expected: (inputs) =>
    ssdScan(
      {
        x: values(inputs, 'x'),
        dt: values(inputs, 'dt'),
        A: values(inputs, 'A'),
        B: values(inputs, 'B'),
        C: values(inputs, 'C'),
        dtBias: values(inputs, 'dtBias'),
        D: values(inputs, 'D'),
        state: values(inputs, 'state'),
      },
      { batch: 1, length: 150, ...VERIFIED, dtSoftplus: true },
    ).y,
  rtol,
  atol,
});

export const ssdChunkScanBench: KernelBench = {
  name: 'ssm/ssd_chunk_scan',
  verify: check(128, 'f32', 1e-4, 1e-4),
  // Operands of matrix units are rounded to f16.
  verifyAlso: [check(64, 'f16', 1e-2, 2e-2), check(256, 'f16', 1e-2, 2e-2)],
  cases: [
    scanCase('130M prefill 2048', 2048, M130),
    scanCase('130M prefill 2048', 2048, M130, 64, 'f16'),
    scanCase('130M prefill 2048', 2048, M130, 128, 'f16'),
    scanCase('2.7B prefill 2048', 2048, B2_7),
    scanCase('2.7B prefill 2048', 2048, B2_7, 128, 'f16'),
    ...[2048, 4096, 16_384].flatMap((length) =>
      [64, 128, 256].flatMap((chunkLength) =>
        (['f32', 'f16'] as const).map((operands) =>
          scanCase(`8B prefill ${length}`, length, B8, chunkLength, operands),
        ),
      ),
    ),
  ],
};
