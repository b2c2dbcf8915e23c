import type { Recording, TensorRef } from '@mambalab/kernels';
import { embed } from '@mambalab/kernels';
import { embed as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const inputsOf = (vocabSize: number, hiddenSize: number, length: number): Readonly<Record<string, RandomInput>> => ({
  table: { shape: [vocabSize, hiddenSize], dtype: 'f16', matrix: true },
  tokens: { shape: [length], dtype: 'u32', below: vocabSize },
});

const record = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  embed(recording, { table: input(inputs, 'table'), tokens: input(inputs, 'tokens') });

const embedCase = (label: string, vocabSize: number, hiddenSize: number, length: number): KernelCase => ({
  label,
  inputs: inputsOf(vocabSize, hiddenSize, length),
  record,
  flops: length * hiddenSize,
  bytes: length * (6 * hiddenSize + 4),
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
  ],
};
