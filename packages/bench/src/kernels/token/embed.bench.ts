import type { Recording, TensorRef } from '@mambalab/kernels';
import { embed } from '@mambalab/kernels';
import { embed as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, MeasuredDtype, RandomInput } from '../../harness/kernel_bench.ts';
import { dtypeLabel, input, values, WEIGHT_BYTES } from '../../harness/kernel_bench.ts';

const inputsOf = (
  vocabSize: number,
  hiddenSize: number,
  length: number,
  dtype: MeasuredDtype = 'f16',
): Readonly<Record<string, RandomInput>> => ({
  table: { shape: [vocabSize, hiddenSize], dtype, matrix: true },
  tokens: { shape: [length], dtype: 'u32', below: vocabSize },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  embed(recording, { table: input(inputs, 'table'), tokens: input(inputs, 'tokens') });

const embedCase = (
  label: string,
  vocabSize: number,
  hiddenSize: number,
  length: number,
  dtype: MeasuredDtype = 'f16',
): KernelCase => ({
  label: `${label}${dtypeLabel(dtype)}`,
  inputs: inputsOf(vocabSize, hiddenSize, length, dtype),
  record,
  flops: length * hiddenSize,
  bytes: length * ((4 + WEIGHT_BYTES[dtype]) * hiddenSize + 4),
});

export const embedBench: KernelBench = {
  name: 'token/embed',
  verify: {
    inputs: inputsOf(100, 768, 7),
    record,
    expected: (inputs) =>
      reference(
        { table: values(inputs, 'table'), tokens: values(inputs, 'tokens') },
        { rows: 7, vocabulary: 100, width: 768 },
      ),
    rtol: 1e-6,
    atol: 1e-7,
  },
  cases: [
    embedCase('130M decode', 50_288, 768, 1),
    embedCase('2.7B decode', 50_288, 2560, 1),
    embedCase('8B decode', 256_000, 4096, 1),
    embedCase('130M prefill 2048', 50_288, 768, 2048),
    embedCase('2.7B prefill 2048', 50_288, 2560, 2048),
    embedCase('8B prefill 4096', 256_000, 4096, 4096),
    ...(['q8', 'q4'] as const).flatMap((dtype) => [
      embedCase('2.7B prefill 2048', 50_288, 2560, 2048, dtype),
      embedCase('8B prefill 4096', 256_000, 4096, 4096, dtype),
    ]),
  ],
};
