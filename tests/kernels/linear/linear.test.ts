import { BASELINE_CAPABILITIES, linear, namedSize, Recording, ShapeError } from '@mambalab/kernels';
import type { Size, TensorRef } from '@mambalab/kernels';
import { expect, it } from 'vitest';

function record(rows: Size, norm: boolean): readonly string[] {
  const recording = new Recording(BASELINE_CAPABILITIES);
  const x = recording.external('x', 'f32', [rows, 16]);
  const weight = recording.external('weight', 'f16', [12, 16]);
  const normWeight: TensorRef | undefined = norm ? recording.external('norm', 'f32', [16]) : undefined;
  linear(recording, { x, weight, normWeight });
  return recording.dispatches.map(({ shader }) => shader.name);
}

it('chooses by the largest number of rows', () => {
  expect(record(1, true)).toEqual(['linear/matvec']);
  expect(record(8, false)).toEqual(['linear/matvec']);
  expect(record(namedSize('batch', 8), true)).toEqual(['linear/matvec']);
  expect(record(9, false)).toEqual(['linear/matmul']);
  expect(record(namedSize('length', 512), false)).toEqual(['linear/matmul']);
});

it('folds the norm into either', () => {
  expect(record(8, true)).toEqual(['linear/matvec']);
  expect(record(9, true)).toEqual(['linear/matmul']);
});

it('takes a vocabulary of 256,000', () => {
  for (const rows of [1, 512]) {
    const recording = new Recording(BASELINE_CAPABILITIES);
    const x = recording.external('x', 'f32', [rows, 4096]);
    linear(recording, { x, weight: recording.external('weight', 'f16', [256_000, 4096]) });
    expect(recording.dispatches).toHaveLength(1);
  }
});

it('refuses a matrix of more values than shaders can count', () => {
  for (const rows of [1, 9]) {
    const recording = new Recording(BASELINE_CAPABILITIES);
    const x = recording.external('x', 'f32', [rows, 4096]);
    const weight = recording.external('weight', 'q4', [2 ** 20, 4096]);
    expect(() => linear(recording, { x, weight })).toThrow(ShapeError);
  }
});
