import type { Recording, TensorRef } from '@mambalab/kernels';
import { columns, reshape, ssdChunkScan } from '@mambalab/kernels';
import { ssdScan } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

/** The two designs in f32, and the first one with f16 operands, which matrix units take where there are any. */
type Form = 'chunks' | 'loop' | 'f16';

interface Sizes {
  readonly batch?: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

/** x | B | C in one row, as the convolution leaves them. */
const tensors = ({ batch = 1, length, heads, headDim, groups, stateSize }: Sizes): Record<string, RandomInput> => ({
  xBC: { shape: [batch * length, heads * headDim + 2 * groups * stateSize], dtype: 'f32' },
  dt: { shape: [batch, length, heads], dtype: 'f32', shift: -4 },
  A: { shape: [heads], dtype: 'f32', shift: -8 },
  dtBias: { shape: [heads], dtype: 'f32' },
  D: { shape: [heads], dtype: 'f32' },
  state: { shape: [batch, heads, headDim, stateSize], dtype: 'f32' },
});

const recordScan =
  ({ batch = 1, length, heads, headDim, groups, stateSize }: Sizes, form: Form, chunkLength: number) =>
  (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef => {
    const inner = heads * headDim;
    const width = groups * stateSize;
    const view = (start: number, size: number, rows: number, perRow: number): TensorRef =>
      reshape(columns(input(inputs, 'xBC'), start, start + size), [batch, length, rows, perRow]);
    const scanned = {
      x: view(0, inner, heads, headDim),
      dt: input(inputs, 'dt'),
      A: input(inputs, 'A'),
      B: view(inner, width, groups, stateSize),
      C: view(inner + width, width, groups, stateSize),
      dtBias: input(inputs, 'dtBias'),
      D: input(inputs, 'D'),
      state: input(inputs, 'state'),
    };
    const options = form === 'f16' ? ({ design: 'chunks', operands: 'f16' } as const) : { design: form };
    return ssdChunkScan(recording, scanned, { ...options, chunkLength }).y;
  };

const scanCase = (label: string, sizes: Sizes, form: Form, chunkLength: number): KernelCase => {
  const { batch = 1, length, heads, headDim, groups, stateSize } = sizes;
  const inner = heads * headDim;
  const perToken =
    // States and what they give to the output; inside the chunk (half a square); scores of each group.
    4 * inner * stateSize + (chunkLength + 1) * inner + (chunkLength + 1) * groups * stateSize;
  return {
    label: `${label}, ${form}, Q ${chunkLength}`,
    inputs: tensors(sizes),
    record: recordScan(sizes, form, chunkLength),
    flops: batch * length * perToken,
    bytes: 4 * batch * (length * (2 * inner + 2 * groups * stateSize + heads) + 2 * inner * stateSize),
  };
};

const M130 = { heads: 24, headDim: 64, groups: 1, stateSize: 128 };
const B2_7 = { heads: 80, headDim: 64, groups: 1, stateSize: 128 };
const B8 = { heads: 128, headDim: 64, groups: 8, stateSize: 128 };
const VERIFIED: Sizes = { length: 150, heads: 4, headDim: 64, groups: 2, stateSize: 128 };

/** Columns of the input xBC. */
function part(inputs: Parameters<typeof values>[0], start: number, size: number): Float32Array {
  const xBC = values(inputs, 'xBC');
  const width = xBC.length / VERIFIED.length;
  return Float32Array.from(
    { length: VERIFIED.length * size },
    (_, i) => xBC[Math.floor(i / size) * width + start + (i % size)] ?? NaN,
  );
}

const verifyOf = (form: Form, chunkLength: number): KernelBench['verify'] => ({
  inputs: tensors(VERIFIED),
  record: recordScan(VERIFIED, form, chunkLength),
  expected: (inputs) =>
    ssdScan(
      {
        x: part(inputs, 0, 256),
        B: part(inputs, 256, 256),
        C: part(inputs, 512, 256),
        dt: values(inputs, 'dt'),
        A: values(inputs, 'A'),
        dtBias: values(inputs, 'dtBias'),
        D: values(inputs, 'D'),
        state: values(inputs, 'state'),
      },
      { batch: 1, ...VERIFIED, dtSoftplus: true },
    ).y,
  // Operands that are rounded to f16 are wrong by up to 2^-11 each.
  rtol: form === 'f16' ? 1e-2 : 1e-4,
  atol: form === 'f16' ? 2e-2 : 1e-4,
});

/** Models, lengths and a batch of prompts, with the chunk length that suits most. */
const shapes = (form: Form, chunkLength: number): readonly KernelCase[] => [
  scanCase('130M prefill 2048', { length: 2048, ...M130 }, form, chunkLength),
  scanCase('2.7B prefill 2048', { length: 2048, ...B2_7 }, form, chunkLength),
  scanCase('8B prefill 2048', { length: 2048, ...B8 }, form, chunkLength),
  scanCase('130M prefill 4096', { length: 4096, ...M130 }, form, chunkLength),
  scanCase('2.7B prefill 4096', { length: 4096, ...B2_7 }, form, chunkLength),
  scanCase('8B prefill 4096', { length: 4096, ...B8 }, form, chunkLength),
  scanCase('8B prefill 16384', { length: 16_384, ...B8 }, form, chunkLength),
  scanCase('2.7B prefill 8 * 512', { batch: 8, length: 512, ...B2_7 }, form, chunkLength),
];

const others = (form: Form, chunkLength: number): readonly KernelCase[] =>
  [2048, 4096, 16_384].map((length) => scanCase(`8B prefill ${length}`, { length, ...B8 }, form, chunkLength));

export const ssdChunkScanBench: KernelBench = {
  name: 'ssm/ssd_chunk_scan',
  verify: verifyOf('chunks', 128),
  cases: [...shapes('chunks', 128), ...others('chunks', 64), ...others('chunks', 256)],
};

export const ssdScanLoopBench: KernelBench = {
  name: 'ssm/ssd_chunk_scan loop',
  verify: verifyOf('loop', 64),
  cases: [...shapes('loop', 64), ...others('loop', 32)],
};

export const ssdScanMatrixBench: KernelBench = {
  name: 'ssm/ssd_chunk_scan f16',
  verify: verifyOf('f16', 128),
  verifyAlso: [verifyOf('f16', 64), verifyOf('f16', 256)],
  cases: [...shapes('f16', 128), ...others('f16', 64), ...others('f16', 256)],
};
