import { ArgumentError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import {
  layOutSafetensors,
  planShards,
  shardIndex,
  storedBytes,
} from '../../../packages/models/src/weights/safetensors_write.ts';
import type { TensorHeader } from '../../../packages/models/src/weights/safetensors_write.ts';
import type { SourceDtype } from '../../../packages/models/src/weights/source.ts';

const header = (name: string, shape: readonly number[], dtype: SourceDtype = 'F32'): TensorHeader => ({
  name,
  dtype,
  shape,
});

describe('layOutSafetensors', () => {
  it('is a length, JSON and spaces up to a multiple of 8 bytes', () => {
    for (const name of ['a', 'ab', 'abc', 'abcd', 'abcde', 'abcdef', 'abcdefg', 'abcdefgh']) {
      const { header: bytes, dataLength } = layOutSafetensors([header(name, [2, 3])]);
      expect(bytes.byteLength % 8).toBe(0);
      expect(Number(new DataView(bytes.buffer).getBigUint64(0, true))).toBe(bytes.byteLength - 8);
      const text = new TextDecoder().decode(bytes.subarray(8));
      expect(text).toMatch(/\} {0,7}$/);
      expect(JSON.parse(text)).toEqual({ [name]: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] } });
      expect(dataLength).toBe(24);
    }
  });

  it('does not depend on the order of tensors: wide elements first, then by name', () => {
    const tensors = [
      header('b', [1], 'F16'),
      header('a', [2], 'F16'),
      header('c', [1]),
      header('__proto__', [3]),
      header('7', []),
    ];
    const { tensors: ordered, header: bytes } = layOutSafetensors(tensors, { b: '2', a: '1' });
    expect(ordered.map(({ name }) => name)).toEqual(['7', '__proto__', 'c', 'a', 'b']);
    expect(layOutSafetensors(tensors.toReversed(), { a: '1', b: '2' }).header).toEqual(bytes);
    expect(new TextDecoder().decode(bytes.subarray(8)).startsWith('{"__metadata__":{"a":"1","b":"2"},"7":{')).toBe(
      true,
    );
  });

  it.each([[[header('a', [1]), header('a', [2])]], [[header('__metadata__', [1])]]])(
    'refuses names that are taken',
    (tensors) => {
      expect(() => layOutSafetensors(tensors)).toThrow(ArgumentError);
      expect(() => layOutSafetensors(tensors)).toThrow(/its name is taken/);
    },
  );
});

describe('planShards', () => {
  const tensors = [header('c', [10]), header('a', [5]), header('b', [5]), header('e', [100]), header('d', [1])];
  const plan = (limit: number): [string, string][] =>
    planShards(tensors, limit).map(({ file, tensors: held }) => [file, held.map(({ name }) => name).join('')]);

  it('puts everything into one file where it fits', () => {
    const total = tensors.reduce((sum, tensor) => sum + storedBytes(tensor), 0);
    expect(plan(total)).toEqual([['model.safetensors', 'abcde']]);
    expect(plan(total - 1).length).toBe(2);
  });

  it('fills one file after another, and gives large tensors files of their own', () => {
    expect(plan(40)).toEqual([
      ['model-00001-of-00004.safetensors', 'ab'],
      ['model-00002-of-00004.safetensors', 'c'],
      ['model-00003-of-00004.safetensors', 'd'],
      ['model-00004-of-00004.safetensors', 'e'],
    ]);
    expect(plan(1).map(([, names]) => names)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('has an index of all tensors', () => {
    const index: unknown = JSON.parse(shardIndex(planShards([header('x', [2]), header('__proto__', [1], 'F64')], 8)));
    expect(index).toEqual({
      metadata: { total_size: 16 },
      weight_map: JSON.parse(
        '{"__proto__": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}',
      ),
    });
  });
});
