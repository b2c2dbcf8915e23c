import { describe, expect, it } from 'vitest';
import type { SourceTensor, WeightSpec } from '../../../packages/models/src/spec/weight_spec.ts';
import { everyPeriod } from '../../../packages/models/src/spec/weights/tensors.ts';
import { BLOCK_BYTES, rowBlocks, sourceBytes } from '../../../packages/models/src/weights/rows.ts';
import type { SourceDtype, TensorInfo, TensorSource } from '../../../packages/models/src/weights/source.ts';
import { SOURCE_DTYPE_BITS } from '../../../packages/models/src/weights/source.ts';

/** Row r, column c of a stored matrix is 100 r + c, one a row of a vector; reads are written down. */
function sourceOf(tensors: Readonly<Record<string, readonly number[]>>, dtype: SourceDtype = 'F32') {
  const reads: string[] = [];
  const valueBytes = SOURCE_DTYPE_BITS[dtype] / 8;
  const infos = new Map<string, TensorInfo>();
  const values = new Map<string, Uint8Array>();
  for (const [name, shape] of Object.entries(tensors)) {
    const width = shape.length === 1 ? 1 : (shape[shape.length - 1] ?? 1);
    const count = shape.reduce((product, size) => product * size, 1);
    const all = Array.from({ length: count }, (_, i) => 100 * Math.floor(i / width) + (i % width));
    const bytes = new Uint8Array(
      (dtype === 'F32' ? Float32Array : dtype === 'F64' ? Float64Array : Uint16Array).from(all).buffer,
    );
    values.set(name, bytes);
    infos.set(name, { name, dtype, shape, byteLength: count * valueBytes, file: 'model.safetensors', byteOffset: 0 });
  }
  const source: TensorSource = {
    tensors: infos,
    read: (name, start = 0, end = infos.get(name)?.byteLength) => {
      reads.push(`${name} ${start} ${end}`);
      return Promise.resolve(values.get(name)?.slice(start, end) ?? new Uint8Array());
    },
    dispose: () => Promise.resolve(),
  };
  return { source, reads };
}

const matrixOf = (shape: readonly number[], ...sources: readonly SourceTensor[]): WeightSpec => ({
  name: 'layers.0.0.matrix',
  kind: 'matrix',
  shape,
  sources,
});

/** All blocks of a weight: where each lies, and its values. */
async function blocksOf(spec: WeightSpec, source: TensorSource) {
  const blocks: { row: number; rows: number; source: string; scale: number; values: number[] }[] = [];
  for await (const block of rowBlocks(spec, 'f32', source)) {
    if ('quants' in block) throw new Error('blocks were read');
    const { row, rows, bytes, dtype } = block;
    const Type = dtype === 'F32' ? Float32Array : dtype === 'F64' ? Float64Array : Uint16Array;
    blocks.push({ row, rows, source: block.source, scale: block.scale, values: [...new Type(bytes.slice().buffer)] });
  }
  return blocks;
}

/** Rows of a stored matrix of `width` columns. */
const rows = (width: number, ...indices: readonly number[]): number[] =>
  indices.flatMap((row) => Array.from({ length: width }, (_, column) => 100 * row + column));

describe('rowBlocks', () => {
  it('reads parts one after another, each from its tensor', async () => {
    const { source, reads } = sourceOf({ a: [2, 3], b: [1, 3] });
    const spec = matrixOf([3, 3], { name: 'a', shape: [2, 3] }, { name: 'b', shape: [1, 3], scale: 0.5 });
    expect(await blocksOf(spec, source)).toEqual([
      { row: 0, rows: 2, source: 'a', scale: 1, values: rows(3, 0, 1) },
      { row: 2, rows: 1, source: 'b', scale: 0.5, values: rows(3, 0) },
    ]);
    expect(reads).toEqual(['a 0 24', 'b 0 12']);
    expect(sourceBytes(spec, source)).toBe(36);
  });

  it('reads one range of rows and no more', async () => {
    const { source, reads } = sourceOf({ a: [6, 3] });
    const spec = matrixOf([2, 3], { name: 'a', shape: [6, 3], ranges: [{ first: 3, count: 2 }] });
    expect(await blocksOf(spec, source)).toEqual([{ row: 0, rows: 2, source: 'a', scale: 1, values: rows(3, 3, 4) }]);
    expect(reads).toEqual(['a 36 60']);
    expect(sourceBytes(spec, source)).toBe(24);
  });

  it('sorts what is stored by turns, and reads the tensor once for all parts', async () => {
    // Three heads of two rows of queries and one of gates.
    const { source, reads } = sourceOf({ q: [9, 2], k: [1, 2] });
    const part = (offset: number, count: number): SourceTensor => ({
      name: 'q',
      shape: [9, 2],
      ranges: everyPeriod(3, 3, offset, count),
    });
    const spec = matrixOf([10, 2], part(0, 2), part(2, 1), { name: 'k', shape: [1, 2] });
    expect(await blocksOf(spec, source)).toEqual([
      { row: 0, rows: 6, source: 'q', scale: 1, values: rows(2, 0, 1, 3, 4, 6, 7) },
      { row: 6, rows: 3, source: 'q', scale: 1, values: rows(2, 2, 5, 8) },
      { row: 9, rows: 1, source: 'k', scale: 1, values: rows(2, 0) },
    ]);
    expect(reads).toEqual(['q 0 72', 'k 0 8']);
    expect(sourceBytes(spec, source)).toBe(80);
  });

  it('takes rows of a matrix of experts', async () => {
    const { source, reads } = sourceOf({ experts: [3, 4, 2] });
    const spec = matrixOf([1, 2, 2], { name: 'experts', shape: [3, 4, 2], ranges: [{ first: 6, count: 2 }] });
    expect((await blocksOf(spec, source)).map(({ values }) => values)).toEqual([rows(2, 6, 7)]);
    expect(reads).toEqual(['experts 48 64']);
  });

  it.each<SourceDtype>(['F32', 'F64', 'F16'])('turns columns into rows, also a range of them, in %s', async (dtype) => {
    // Stored as (width, rows): queries and keys of (2, 3) side by side.
    const { source, reads } = sourceOf({ attn: [3, 4] }, dtype);
    const part = (first: number): SourceTensor => ({
      name: 'attn',
      shape: [3, 4],
      transposed: true,
      ranges: [{ first, count: 2 }],
    });
    const columns = (...indices: readonly number[]): number[] => indices.flatMap((c) => [c, 100 + c, 200 + c]);
    expect(await blocksOf(matrixOf([4, 3], part(2), part(0)), source)).toEqual([
      { row: 0, rows: 2, source: 'attn', scale: 1, values: columns(2, 3) },
      { row: 2, rows: 2, source: 'attn', scale: 1, values: columns(0, 1) },
    ]);
    expect(reads).toHaveLength(1);
    const whole = matrixOf([4, 3], { name: 'attn', shape: [3, 4], transposed: true });
    expect((await blocksOf(whole, source)).map(({ values }) => values)).toEqual([columns(0, 1, 2, 3)]);
  });

  it('repeats a vector, and takes values of one', async () => {
    const { source, reads } = sourceOf({ norm: [2] });
    const vector = (...ranges: NonNullable<SourceTensor['ranges']>): WeightSpec => ({
      name: 'layers.0.0.gateNorm',
      kind: 'vector',
      shape: [ranges.reduce((sum, { count }) => sum + count, 0)],
      sources: [{ name: 'norm', shape: [2], ranges }],
    });
    const both = { first: 0, count: 2 };
    expect((await blocksOf(vector(both, both, both), source)).map(({ values }) => values)).toEqual([
      [0, 100, 0, 100, 0, 100],
    ]);
    expect((await blocksOf(vector({ first: 1, count: 1 }), source)).map(({ values }) => values)).toEqual([[100]]);
    expect(reads).toEqual(['norm 0 8', 'norm 4 8']);
  });

  it('asks for each range of a large tensor by itself, and for long ones in blocks', async () => {
    // Rows of 4 MiB: five are more than what is read at once.
    const width = BLOCK_BYTES / 16;
    const shape = [6, width];
    const info = { name: 'a', dtype: 'F32', shape, byteLength: 0, file: 'a', byteOffset: 0 } as const;
    const reads: number[][] = [];
    const source: TensorSource = {
      tensors: new Map([['a', info]]),
      read: (_name, start = 0, end = 0) => {
        reads.push([start / (4 * width), end / (4 * width)]);
        return Promise.resolve(new Uint8Array());
      },
      dispose: () => Promise.resolve(),
    };
    const taken = async (ranges?: SourceTensor['ranges']): Promise<number[][]> => {
      reads.length = 0;
      const places: number[][] = [];
      const spec = matrixOf([1, width], { name: 'a', shape, ...(ranges && { ranges }) });
      for await (const { row, rows: count } of rowBlocks(spec, 'f32', source)) places.push([row, row + count]);
      expect(places.map(([begin = 0, end = 0]) => end - begin)).toEqual(
        reads.map(([begin = 0, end = 0]) => end - begin),
      );
      return places;
    };
    expect(await taken()).toEqual([
      [0, 4],
      [4, 6],
    ]);
    expect(reads).toEqual([
      [0, 4],
      [4, 6],
    ]);
    expect(
      await taken([
        { first: 5, count: 1 },
        { first: 0, count: 5 },
      ]),
    ).toEqual([
      [0, 1],
      [1, 5],
      [5, 6],
    ]);
    expect(reads).toEqual([
      [5, 6],
      [0, 4],
      [4, 5],
    ]);
  });

  it('stops between parts when the signal aborts', async () => {
    const { source, reads } = sourceOf({ a: [2, 2], b: [2, 2] });
    const abort = new AbortController();
    const reason = new Error('no longer needed');
    const spec = matrixOf([4, 2], { name: 'a', shape: [2, 2] }, { name: 'b', shape: [2, 2], transposed: true });
    const reading = (async (): Promise<void> => {
      for await (const { row } of rowBlocks(spec, 'f32', source, abort.signal)) if (row === 0) abort.abort(reason);
    })();
    await expect(reading).rejects.toBe(reason);
    expect(reads).toEqual(['a 0 16']);
  });
});
