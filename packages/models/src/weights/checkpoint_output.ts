import { IntegrityError, isQuantized } from '@mambalab/kernels';
import type { BlockDtype } from '@mambalab/kernels';
import type { ParsedModel, WeightSpec } from '../spec/weight_spec.ts';
import { toFloat32, toPackedBf16, toPackedF16 } from './convert.ts';
import { namedSource } from './named_source.ts';
import type { PlannedWeight, WeightDtype } from './plan.ts';
import { isFloat32, planWeights } from './plan.ts';
import type { Quantization } from './quantization.ts';
import { quantizedRows } from './quantized_rows.ts';
import type { QuantizedHeader } from './quantized_tensors.ts';
import { joinRows, QUANTIZATION_KEY, quantizationText, quantizedShape } from './quantized_tensors.ts';
import { rowBlocks, rowWidth } from './rows.ts';
import { layOutSafetensors, storedBytes } from './safetensors_write.ts';
import type { TensorHeader } from './safetensors_write.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { SourceDtype, TensorInfo, TensorSource } from './source.ts';

/** A type of matrices in files. */
export type OutputDtype = Exclude<WeightDtype, 'auto'>;

/** Bytes that are in memory at a time. A multiple of every element. */
const BLOCK_BYTES = 16 * 2 ** 20;

const STORED: Readonly<Record<Exclude<OutputDtype, BlockDtype>, SourceDtype>> = {
  f32: 'F32',
  f16: 'F16',
  bf16: 'BF16',
};

/** A tensor of a checkpoint that is to be written. */
export interface OutputTensor extends TensorHeader {
  /** What it is made from. */
  readonly info: TensorInfo;
  /** Where it becomes blocks, or stays in them. */
  readonly blocks?: QuantizedHeader & { readonly search: boolean };
}

/**
 * Every tensor that a model needs, and how it is written.
 *
 * With a plain dtype matrices get it and everything else is float32, as both are on the GPU. With blocks the matrices
 * become what loading with that dtype and quantization makes them, and everything else keeps its type. Without a dtype all
 * keep theirs.
 *
 * @throws as {@link planWeights}
 */
export function planOutput(
  model: ParsedModel,
  source: TensorSource,
  dtype?: OutputDtype,
  quantization?: Quantization,
): OutputTensor[] {
  const plain = namedSource(source).tensors;
  const wanted = dtype === 'q8' || dtype === 'q4' ? dtype : 'auto';
  const uses = new Map<string, PlannedWeight[]>();
  for (const weight of planWeights(model, source, wanted, quantization)) {
    for (const { name } of weight.spec.sources) uses.set(name, [...(uses.get(name) ?? []), weight]);
  }
  return [...source.tensors.values()].flatMap((info): OutputTensor[] => {
    const weights = uses.get(info.name);
    const named = plain.get(info.name);
    if (weights === undefined || named === undefined) return [];
    const blocks = blocksOf(info, weights, dtype);
    if (blocks !== undefined) return [{ name: info.name, dtype: 'U8', shape: quantizedShape(blocks), info, blocks }];
    const stored = dtype === undefined || isQuantized(dtype) ? named.dtype : STORED[dtype];
    const isExact = weights.every(({ spec }) => isFloat32(spec)) && dtype !== undefined && !isQuantized(dtype);
    return [{ name: info.name, shape: named.shape, dtype: isExact ? 'F32' : stored, info: named }];
  });
}

/** The blocks that a tensor is written in: those that all weights made from it have. */
function blocksOf(
  info: TensorInfo,
  weights: readonly PlannedWeight[],
  dtype: OutputDtype | undefined,
): OutputTensor['blocks'] {
  const kept = dtype === undefined && (info.blocks?.kind === 'q8' || info.blocks?.kind === 'q4');
  if (!kept && (dtype === undefined || !isQuantized(dtype))) return undefined;
  const [first] = weights;
  const to = kept ? info.blocks?.nearest : first?.dtype;
  if (first === undefined || to === undefined || !isQuantized(to)) return undefined;
  const isTransposed = ({ spec }: PlannedWeight): boolean =>
    spec.sources.find(({ name }) => name === info.name)?.transposed === true;
  const transposed = isTransposed(first);
  const width = transposed ? info.shape[0] : info.shape[info.shape.length - 1];
  const agree = weights.every(
    (weight) => (kept || weight.dtype === to) && isTransposed(weight) === transposed && rowWidth(weight.spec) === width,
  );
  if (!agree) return undefined;
  return { dtype: to, shape: info.shape, ...(transposed && { transposed }), search: first.search === true };
}

/** What is told while tensors are written: bytes of the source, as values. */
export type OutputProgress = (bytes: number) => void;

/**
 * A safetensors file of some tensors, piece by piece.
 *
 * @throws IntegrityError for values beyond the range of their type
 */
export async function* outputFile(
  tensors: readonly OutputTensor[],
  source: TensorSource,
  onBytes: OutputProgress,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const headers = tensors.flatMap(({ name, blocks }) =>
    blocks === undefined ? [] : [[name, headerOf(blocks)] as const],
  );
  const { header, tensors: ordered } = layOutSafetensors(tensors, {
    // Hugging Face's loader asks for this word.
    format: 'pt',
    ...(headers.length > 0 && { [QUANTIZATION_KEY]: quantizationText(Object.fromEntries(headers)) }),
  });
  yield header;
  const named = namedSource(source);
  for (const tensor of ordered) {
    yield* tensor.blocks === undefined
      ? plainPieces(tensor, named, onBytes, signal)
      : blockPieces(tensor.info, tensor.blocks, source, onBytes, signal);
  }
}

const headerOf = ({ dtype, shape, transposed }: QuantizedHeader): QuantizedHeader => ({
  dtype,
  shape,
  ...(transposed === true && { transposed }),
});

async function* plainPieces(
  { dtype, info }: OutputTensor,
  source: TensorSource,
  onBytes: OutputProgress,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const read = (start: number, end: number): Promise<Uint8Array> => source.read(info.name, start, end, signal);
  for await (const bytes of readPieces(info.byteLength, read, signal)) {
    yield convertPiece(bytes, info, dtype);
    onBytes(bytes.byteLength);
  }
}

/** As loading reads the rows of a weight that is this tensor. */
async function* blockPieces(
  info: TensorInfo,
  { dtype, shape, transposed = false, search }: QuantizedHeader & { readonly search: boolean },
  source: TensorSource,
  onBytes: OutputProgress,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const spec: WeightSpec = {
    name: info.name,
    kind: 'matrix',
    shape: transposed ? shape.toReversed() : shape,
    sources: [{ name: info.name, shape, ...(transposed && { transposed }) }],
  };
  const width = rowWidth(spec);
  for await (const block of rowBlocks(spec, dtype, source, signal)) {
    yield joinRows(quantizedRows(block, { dtype, width, search }), dtype, width);
    onBytes((block.rows * width * SOURCE_DTYPE_BITS[info.dtype]) / 8);
  }
}

/** Bytes of something, some MiB at a time. */
export async function* readPieces(
  size: number,
  read: (start: number, end: number) => Promise<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < size; start += BLOCK_BYTES) {
    signal.throwIfAborted();
    yield await read(start, Math.min(size, start + BLOCK_BYTES));
  }
}

function convertPiece(bytes: Uint8Array, info: TensorInfo, dtype: SourceDtype): Uint8Array {
  if (dtype === info.dtype) return bytes;
  if (dtype === 'F32') {
    const values = toFloat32(bytes, info.dtype);
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const { words, overflows } = (dtype === 'F16' ? toPackedF16 : toPackedBf16)(bytes, info.dtype);
  if (overflows > 0) {
    throw new IntegrityError(
      `${overflows} values of '${info.name}' are beyond the range of ${dtype}.`,
      'Convert with --dtype bf16 or f32.',
    );
  }
  // Words hold two values, and the last may be half full.
  return new Uint8Array(words.buffer, 0, (bytes.byteLength * 16) / SOURCE_DTYPE_BITS[info.dtype]);
}

/** What the tensors are stored as, and the bytes of each, the largest first. */
export function storedKinds(tensors: readonly OutputTensor[]): ReadonlyMap<string, number> {
  const kinds = new Map<string, number>();
  for (const tensor of tensors) {
    const kind = tensor.blocks?.dtype ?? tensor.dtype;
    kinds.set(kind, (kinds.get(kind) ?? 0) + storedBytes(tensor));
  }
  return kinds;
}
