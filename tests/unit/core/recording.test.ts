import type { TensorRef } from '@mambalab/kernels';
import {
  addSize,
  ArgumentError,
  BASELINE_CAPABILITIES,
  columns,
  evaluateSize,
  MAX_WORKGROUPS_PER_DIMENSION,
  namedSize,
  Recording,
  reshape,
  rowsOf,
  ShapeError,
  strideOfRows,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { accessShader, affineShader } from './probe_shaders.ts';

const newRecording = (): Recording => new Recording(BASELINE_CAPABILITIES);
const PARAMS = { count: 8, factor: 1, shift: 0 };

describe('tensors of a recording', () => {
  it('an external tensor is one, however often it is named', () => {
    const recording = newRecording();
    const first = recording.external('w', 'f16', [4, 6]);
    expect(recording.external('w', 'f16', [4, 6])).toBe(first);
    expect(recording.external('w', 'f16', [4, 6], 6)).toBe(first);
    expect(recording.storages).toHaveLength(1);
    expect(() => recording.external('w', 'bf16', [4, 6])).toThrow(ArgumentError);
    expect(() => recording.external('w', 'f16', [6, 4])).toThrow(ArgumentError);
    expect(() => recording.external('w', 'f16', [4, 6], 8)).toThrow(ArgumentError);
    expect(() => recording.external('w', 'f16', [24])).toThrow(ArgumentError);
  });

  it('rows fill whole words', () => {
    const recording = newRecording();
    expect(recording.scratch('a', 'f16', [3, 5]).rowStride).toBe(6);
    expect(recording.scratch('b', 'f32', [3, 5]).rowStride).toBe(5);
    const wide = recording.scratch('c', 'f32', [2, 3, 5], 8);
    expect([wide.rowStride, wide.rowWidth, wide.storage.rows]).toEqual([8, 5, 6]);
  });

  it('a named size counts with its maximum', () => {
    const recording = newRecording();
    const length = namedSize('length', 9);
    const x = recording.scratch('x', 'f32', [length, 4]);
    expect(evaluateSize(x.storage.rows, { length: 3 })).toBe(3);
    expect(recording.scratch('t', 'u32', [length]).rowStride).toBe(9);
  });

  it('refuses shapes that are none', () => {
    for (const shape of [[], [0], [2, -1], [1.5], [NaN]]) {
      expect(() => newRecording().scratch('x', 'f32', shape)).toThrow(ShapeError);
    }
  });

  it('scopes name scratch tensors and dispatches, also after an error', () => {
    const recording = newRecording();
    expect(() =>
      recording.scope('layer', () => {
        throw new Error('inside');
      }),
    ).toThrow('inside');
    const inner = recording.scope('layer', () => recording.scope('mixer', () => recording.scratch('y', 'f32', [1])));
    expect(inner.storage.name).toBe('layer/mixer/y');
    expect(recording.scratch('y', 'f32', [1]).storage.name).toBe('y');
  });

  it('there is one placeholder, of any dtype', () => {
    const recording = newRecording();
    const first = recording.placeholder();
    const second = recording.placeholder('u32');
    expect(second.storage).toBe(first.storage);
    expect(second.dtype).toBe('u32');
    expect(recording.storages).toHaveLength(1);
  });

  it('a kept tensor is an output for all its views', () => {
    const recording = newRecording();
    const x = recording.scratch('x', 'f32', [2, 8]);
    const view = columns(x, 0, 4);
    recording.keep('result', view);
    expect(x.storage.role).toBe('output');
    expect(recording.outputs.get('result')).toBe(view);
    const weight = recording.external('w', 'f32', [1]);
    recording.keep('weight', weight);
    expect(weight.storage.role).toBe('external');
  });
});

describe('dispatch', () => {
  const ends = (recording: Recording): { x: TensorRef; y: TensorRef } => ({
    x: recording.external('x', 'f32', [8]),
    y: recording.scratch('y', 'f32', [8]),
  });

  it('records what was decided', () => {
    const recording = newRecording();
    const { x, y } = ends(recording);
    recording.scope('layer', () =>
      recording.dispatch(affineShader, {
        bindings: { y, x },
        params: PARAMS,
        overrides: { BIAS: 2 },
        constants: { TILE: 32 },
        workgroups: [3],
      }),
    );
    expect(recording.dispatches).toHaveLength(1);
    expect(recording.dispatches[0]).toMatchObject({
      variant: 1,
      label: 'layer/probe/affine',
      bindings: [x, y],
      overrides: { BIAS: 2 },
      constants: { TILE: 32 },
      workgroups: [3, 1, 1],
    });
    expect(recording.choice(affineShader, 'simd')).toBe('baseline');
  });

  it('turns flags into numbers and leaves out what is undefined', () => {
    const recording = newRecording();
    recording.dispatch(affineShader, {
      bindings: ends(recording),
      params: PARAMS,
      overrides: { BIAS: true },
      workgroups: [1],
    });
    expect(recording.dispatches[0]?.overrides).toEqual({ BIAS: 1 });
  });

  it('refuses a tensor of another dtype, but not a placeholder', () => {
    const recording = newRecording();
    const { y } = ends(recording);
    const wrong = recording.external('i', 'i32', [8]);
    const dispatch = (x: TensorRef): void =>
      recording.dispatch(affineShader, { bindings: { x, y }, params: PARAMS, workgroups: [1] });
    expect(() => dispatch(wrong)).toThrow(ShapeError);
    expect(() => dispatch(wrong)).toThrow(/affine\.x reads f32 elements; found a tensor of dtype i32 \(i\)/);
    expect(recording.dispatches).toHaveLength(0);
    dispatch(recording.placeholder('i32'));
    expect(recording.dispatches).toHaveLength(1);
  });

  it('refuses a written tensor that is bound twice, also as another view', () => {
    const recording = newRecording();
    const x = recording.external('x', 'f32', [2, 8]);
    const dispatch = (y: TensorRef): void =>
      recording.dispatch(affineShader, { bindings: { x, y }, params: PARAMS, workgroups: [1] });
    expect(() => dispatch(x)).toThrow(ShapeError);
    expect(() => dispatch(columns(x, 4, 8))).toThrow(/'y' \(written\) and as 'x'/);
    // Reading one tensor twice is fine.
    const twice = accessShader(2, 1);
    recording.dispatch(twice, {
      bindings: { r0: x, r1: columns(x, 4, 8), w0: recording.scratch('w', 'f32', [1]) },
      params: {},
      workgroups: [1],
    });
    expect(recording.dispatches).toHaveLength(1);
  });

  it('refuses grids that no device runs, at their largest', () => {
    const recording = newRecording();
    const bindings = ends(recording);
    const dispatch = (workgroups: Parameters<typeof recording.dispatch>[1]['workgroups']): void =>
      recording.dispatch(affineShader, { bindings, params: PARAMS, workgroups });
    dispatch([MAX_WORKGROUPS_PER_DIMENSION, 1, MAX_WORKGROUPS_PER_DIMENSION]);
    const large = namedSize('large', MAX_WORKGROUPS_PER_DIMENSION);
    dispatch([large]);
    expect(() => dispatch([MAX_WORKGROUPS_PER_DIMENSION + 1])).toThrow(ShapeError);
    expect(() => dispatch([1, addSize(large, 1)])).toThrow(/65536 workgroups/);
  });
});

describe('views', () => {
  const matrix = (): TensorRef => newRecording().external('m', 'f32', [6, 10], 12);

  it('columns move the offset and keep the rows', () => {
    const view = columns(columns(matrix(), 2, 9), 1, 4);
    expect(view.shape).toEqual([6, 3]);
    expect([view.offset, view.rowWidth, view.rowStride]).toEqual([3, 3, 12]);
    for (const [low, high] of [
      [-1, 2],
      [3, 3],
      [4, 11],
    ] as const) {
      expect(() => columns(matrix(), low, high)).toThrow(ShapeError);
    }
    expect(() => columns(reshape(matrix(), [2, 3, 10]), 0, 1)).toThrow(ShapeError);
  });

  it('rows move the offset by whole rows, also by named ones', () => {
    const view = rowsOf(columns(matrix(), 2, 5), 4, 2);
    expect(view.shape).toEqual([2, 3]);
    expect(view.offset).toBe(50);
    const start = namedSize('start', 5);
    expect(evaluateSize(rowsOf(matrix(), start, 1).offset, { start: 3 })).toBe(36);
    expect(() => rowsOf(reshape(matrix(), [60]), 0, 1)).toThrow(ShapeError);
  });

  it('reshape keeps the number of values', () => {
    expect(reshape(matrix(), [2, 3, 5, 2]).shape).toEqual([2, 3, 5, 2]);
    expect(() => reshape(matrix(), [6, 11])).toThrow(ShapeError);
  });

  it('strideOfRows finds the distance of rows, or that there is none', () => {
    const m = matrix();
    expect(strideOfRows('m', m, 1)).toBe(12);
    expect(strideOfRows('m', reshape(m, [2, 3, 5, 2]), 2)).toBe(12);
    expect(() => strideOfRows('m', reshape(m, [2, 3, 5, 2]), 1)).toThrow(ShapeError);
    expect(() => strideOfRows('m', m, 2)).toThrow(/'m' \(6, 10\) lies in rows of 10 values 12 apart/);
    const dense = newRecording().external('d', 'f32', [6, 10]);
    expect(strideOfRows('d', reshape(dense, [6, 5, 2]), 1)).toBe(2);
    expect(strideOfRows('d', dense, 2)).toBe(60);
  });
});
