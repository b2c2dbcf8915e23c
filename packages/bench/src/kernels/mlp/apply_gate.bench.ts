import type { Recording, TensorRef } from '@mambalab/kernels';
import { applyGate } from '@mambalab/kernels';
import { applyGate as reference } from '@mambalab/kernels/reference';
import type { KernelBench, KernelCase, KernelCheck, RandomInput } from '../../harness/kernel_bench.ts';
import { input, values } from '../../harness/kernel_bench.ts';

const inputsOf = (rows: number, width: number, gates: number): Readonly<Record<string, RandomInput>> => ({
  x: { shape: [rows, width], dtype: 'f32' },
  gate: { shape: [rows, gates], dtype: 'f32' },
});

/** Gate and up of a feed-forward layer, made by two projections. */
const recordLayer = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  applyGate(recording, { x: input(inputs, 'x'), gate: input(inputs, 'gate') }, { activation: 'silu' });

const layerCase = (label: string, rows: number, width: number): KernelCase => ({
  label,
  inputs: inputsOf(rows, width, width),
  record: recordLayer,
  flops: 6 * rows * width,
  bytes: 12 * rows * width,
});

/** A shared expert's output, added to the residual stream under one gate a token. */
const recordExpert = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
  applyGate(
    recording,
    { x: input(inputs, 'x'), gate: input(inputs, 'gate'), residual: input(inputs, 'residual') },
    { activation: 'sigmoid' },
  );

const expertInputs = (rows: number, width: number): Readonly<Record<string, RandomInput>> => ({
  ...inputsOf(rows, width, 1),
  residual: { shape: [rows, width], dtype: 'f32' },
});

const expertCase = (label: string, rows: number, width: number): KernelCase => ({
  label,
  inputs: expertInputs(rows, width),
  record: recordExpert,
  flops: 3 * rows * width,
  bytes: 4 * rows * (3 * width + 1),
});

const check = (
  inputs: Readonly<Record<string, RandomInput>>,
  record: KernelCheck['record'],
  activation: 'silu' | 'sigmoid',
): KernelCheck => ({
  inputs,
  record,
  expected: (given) =>
    reference(
      {
        x: values(given, 'x'),
        gate: values(given, 'gate'),
        ...(activation === 'sigmoid' && { addend: values(given, 'residual') }),
      },
      { rows: 5, width: 132, activation },
    ),
  rtol: 2e-6,
  atol: 2e-6,
});

export const applyGateBench: KernelBench = {
  name: 'mlp/apply_gate',
  verify: check(inputsOf(5, 132, 132), recordLayer, 'silu'),
  verifyAlso: [check(expertInputs(5, 132), recordExpert, 'sigmoid')],
  cases: [
    layerCase('Zamba2 7B decode', 1, 14_336),
    layerCase('Zamba2 7B prefill 512', 512, 14_336),
    expertCase('Qwen3-Next decode, one gate a row', 1, 2048),
    expertCase('Qwen3-Next prefill 2048, one gate a row', 2048, 2048),
  ],
};
