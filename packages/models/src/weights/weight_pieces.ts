import type { Dtype } from '@mambalab/kernels';
import { IntegrityError, storagePlanes, valuesPerWord } from '@mambalab/kernels';
import { weightRowStride } from '../graph/names.ts';
import type { WeightSpec } from '../spec/weight_spec.ts';
import { countNonFinite, packBf16, packF16, toFloat32, toPackedBf16, toPackedF16 } from './convert.ts';
import type { PlannedWeight } from './plan.ts';
import { checkFinite, quantizedRows } from './quantized_rows.ts';
import type { RowQuantization } from './quantized_rows.ts';
import { readAhead } from './read_ahead.ts';
import type { PendingRows, RowBlock, ValueRows } from './rows.ts';
import { blockOf, pendingRows, rowWidth, sourceBytes } from './rows.ts';
import type { TensorSource } from './source.ts';

/** A part of a weight as it lies on the GPU. */
export interface WeightPiece {
  readonly weight: PlannedWeight;
  /** Where in its tensor it begins, in words of 4 bytes. */
  readonly wordOffset: number;
  /** May be overwritten once the next piece is asked for. */
  readonly words: Float32Array | Uint32Array;
  /** The file that it comes from. */
  readonly file: string;
  /** What it counts for, of {@link WeightPieces.totalBytes}. */
  readonly bytes: number;
}

/**
 * Weights in pieces that only need to be written to the GPU: made from a checkpoint ({@link transformedPieces}), or kept
 * from an earlier load.
 */
export interface WeightPieces {
  /** What `bytes` of all pieces add up to. */
  readonly totalBytes: number;
  /** The pieces, each once. Bytes behind them in a tensor are zero. */
  read(signal?: AbortSignal): AsyncIterable<WeightPiece>;
}

/** Bytes of the checkpoint that the plan reads. */
export function plannedBytes(plan: readonly PlannedWeight[], source: TensorSource): number {
  return plan.reduce((sum, { spec }) => sum + sourceBytes(spec, source), 0);
}

/**
 * The weights of a checkpoint, block by block in the order of its files: read, convert, transform, quantize. The next
 * blocks are read meanwhile.
 *
 * @throws IntegrityError, while reading, if a weight is not finite, or too large for what it is stored in
 */
export function transformedPieces(plan: readonly PlannedWeight[], source: TensorSource): WeightPieces {
  return { totalBytes: plannedBytes(plan, source), read: (signal) => transform(plan, source, signal) };
}

/** A weight of which not all blocks are made. */
interface WeightInMaking {
  readonly weight: PlannedWeight;
  /** Blocks that are to come. */
  blocks: number;
  maker: PieceMaker | undefined;
}

/** Makes the pieces of one weight from its blocks. */
interface PieceMaker {
  make(block: RowBlock): Pick<WeightPiece, 'wordOffset' | 'words'>;
  /** What is left when all blocks are made. */
  end(): Pick<WeightPiece, 'wordOffset' | 'words'> | undefined;
}

async function* transform(
  plan: readonly PlannedWeight[],
  source: TensorSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<WeightPiece> {
  const parts = plan.flatMap((weight) => {
    const rows = pendingRows(weight.spec, weight.dtype, source);
    const making: WeightInMaking = { weight, blocks: rows.length, maker: undefined };
    return rows.map((block) => ({ ...block, making }));
  });
  for await (const { part, content } of readAhead(parts.sort(byPlace), signal)) {
    const { making, file, fileBytes } = part;
    const { weight } = making;
    making.maker ??= makerFor(weight);
    yield { weight, file, bytes: fileBytes, ...making.maker.make(blockOf(part, content)) };
    making.blocks -= 1;
    const rest = making.blocks === 0 ? making.maker.end() : undefined;
    if (rest !== undefined) yield { weight, file, bytes: 0, ...rest };
  }
}

/** By file, and within a file from front to back. */
function byPlace(a: PendingRows, b: PendingRows): number {
  if (a.file !== b.file) return a.file < b.file ? -1 : 1;
  return a.byteOffset - b.byteOffset;
}

function makerFor({ spec, dtype, search = false }: PlannedWeight): PieceMaker {
  if (dtype === 'q8' || dtype === 'q4') return quantizedMaker(spec, { dtype, width: rowWidth(spec), search });
  // Only matrices have padded rows.
  const stride = spec.kind === 'matrix' ? weightRowStride(dtype, spec.shape) : 1;
  return {
    make: (block) => {
      if ('quants' in block) throw new RangeError(`Blocks were read for '${spec.name}', which is ${dtype}.`);
      return { wordOffset: (block.row * stride) / valuesPerWord(dtype), words: convertBlock(spec, dtype, block) };
    },
    end: () => undefined,
  };
}

/** Quants are pieces block by block. Scales, two a word, are few and follow at the end. */
function quantizedMaker(spec: WeightSpec, quantization: RowQuantization): PieceMaker {
  const { dtype } = quantization;
  const rows = spec.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const stride = weightRowStride(dtype, spec.shape);
  const [quantPlane, scalePlane] = storagePlanes(dtype, rows, stride);
  const rowWords = (quantPlane?.byteLength ?? 0) / 4 / rows;
  const all = new Uint32Array((scalePlane?.byteLength ?? 0) / 4);
  const scales = new Uint16Array(all.buffer);
  const rowScales = stride / 32;
  return {
    make: (block) => {
      const made = quantizedRows(block, quantization);
      scales.set(made.scales, block.row * rowScales);
      return { wordOffset: block.row * rowWords, words: made.quants };
    },
    end: () => ({ wordOffset: (scalePlane?.byteOffset ?? 0) / 4, words: all }),
  };
}

function scaled(values: Float32Array, scale: number): Float32Array {
  return scale === 1 ? values : values.map((value) => value * scale);
}

/** The words of a block as the GPU stores them, rows padded for matrices. */
function convertBlock(spec: WeightSpec, dtype: Dtype, block: ValueRows): Float32Array | Uint32Array {
  const { bytes, scale, rows } = block;
  if (dtype === 'f16' || dtype === 'bf16') {
    const [pack, convert] = dtype === 'f16' ? [packF16, toPackedF16] : [packBf16, toPackedBf16];
    const { words, overflows } =
      scale === 1 ? convert(bytes, block.dtype) : pack(scaled(toFloat32(bytes, block.dtype), scale));
    if (overflows > 0) {
      throw new IntegrityError(
        `${overflows} values of '${block.source}' are beyond the range of ${dtype}.`,
        "Load the model with dtype 'bf16' or 'f32'.",
      );
    }
    checkFinite(block, countNonFiniteHalves(words, dtype));
    return padRows(new Uint16Array(words.buffer), spec, dtype, rows, Uint16Array);
  }
  let values = scaled(toFloat32(bytes, block.dtype), scale);
  if (spec.transform === 'negativeExp' && !block.transformed) values = values.map((value) => -Math.exp(value));
  checkFinite(block, countNonFinite(values));
  return spec.kind === 'matrix' ? padRows(values, spec, dtype, rows, Float32Array) : values;
}

function padRows<T extends Uint16Array | Float32Array>(
  values: T,
  spec: WeightSpec,
  dtype: Dtype,
  rows: number,
  Type: new (length: number) => T,
): Float32Array | Uint32Array {
  const width = rowWidth(spec);
  const stride = weightRowStride(dtype, spec.shape);
  let padded = values;
  if (stride !== width) {
    padded = new Type(rows * stride);
    for (let row = 0; row < rows; row++) padded.set(values.subarray(row * width, (row + 1) * width), row * stride);
  }
  return padded instanceof Float32Array
    ? padded
    : new Uint32Array(padded.buffer, padded.byteOffset, padded.byteLength / 4);
}

/** Packed values whose exponent is all ones: infinities and NaN. */
function countNonFiniteHalves(words: Uint32Array, dtype: 'f16' | 'bf16'): number {
  const mask = dtype === 'f16' ? 0x7c00 : 0x7f80;
  const high = mask << 16;
  let count = 0;
  for (const word of words) {
    if ((word & mask) === mask) count++;
    if ((word & high) === high) count++;
  }
  return count;
}
