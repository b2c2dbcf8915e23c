import type { Device, Dtype, Tensor } from '@mambalab/kernels';
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

/** Bytes handed to the GPU's queue before waiting for it, since the queue keeps copies until they are done. */
const IN_FLIGHT_BYTES = 128 * 2 ** 20;

/** What uploading needs of a device. */
export type UploadDevice = Pick<Device, 'createTensor' | 'guard' | 'idle' | 'write'>;

export interface UploadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes that are uploaded so far, and the file of the last ones. */
  readonly onBytes?: ((loaded: number, file: string) => void) | undefined;
}

/** Bytes of the checkpoint that the plan reads. */
export function plannedBytes(plan: readonly PlannedWeight[], source: TensorSource): number {
  return plan.reduce((sum, { spec }) => sum + sourceBytes(spec, source), 0);
}

/**
 * Streams weights from a checkpoint to the GPU, block by block in the order of its files: read, convert, transform,
 * quantize, write. The next blocks are read meanwhile. On any failure the tensors made so far are freed.
 *
 * @throws IntegrityError if a weight is not finite, or too large for what it is stored in
 */
export async function uploadWeights(
  device: UploadDevice,
  plan: readonly PlannedWeight[],
  source: TensorSource,
  options: UploadOptions = {},
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  const begin = async ({ spec, dtype, search }: PlannedWeight): Promise<WeightWriter> => {
    const tensor = await device.guard(`Allocating ${spec.name}`, () => {
      const made = createWeight(device, spec, dtype);
      // Known before the allocation is: a refused buffer is freed with the others.
      tensors.set(spec.name, made);
      return made;
    });
    return writerFor(device, spec, tensor, search);
  };
  const parts = plan.flatMap((planned) => {
    const rows = pendingRows(planned.spec, planned.dtype, source);
    const weight: WeightInMaking = { ...planned, blocks: rows.length, writer: undefined };
    return rows.map((block) => ({ ...block, weight }));
  });
  let loaded = 0;
  let inFlight = 0;
  try {
    for await (const { part, content } of readAhead(parts.sort(byPlace), options.signal)) {
      const { weight } = part;
      weight.writer ??= await begin(weight);
      inFlight += weight.writer.write(blockOf(part, content));
      weight.blocks -= 1;
      if (weight.blocks === 0) weight.writer.end();
      loaded += part.fileBytes;
      options.onBytes?.(loaded, part.file);
      if (inFlight > IN_FLIGHT_BYTES) {
        await device.idle();
        inFlight = 0;
      }
    }
    await device.idle();
    return inOrder(plan, tensors);
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/** A weight of which not all blocks are written. */
interface WeightInMaking extends PlannedWeight {
  /** Blocks that are to come. */
  blocks: number;
  writer: WeightWriter | undefined;
}

/** The tensors in the order of their plan, which is not that of the files. */
function inOrder(plan: readonly PlannedWeight[], tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const ordered = new Map<string, Tensor>();
  for (const { spec } of plan) {
    const tensor = tensors.get(spec.name);
    if (tensor !== undefined) ordered.set(spec.name, tensor);
  }
  return ordered;
}

/** By file, and within a file from front to back. */
function byPlace(a: PendingRows, b: PendingRows): number {
  if (a.file !== b.file) return a.file < b.file ? -1 : 1;
  return a.byteOffset - b.byteOffset;
}

/** A tensor for a weight, zeroed: the padding behind each row of a matrix stays zero. */
export function createWeight(device: Pick<Device, 'createTensor'>, spec: WeightSpec, dtype: Dtype): Tensor {
  const stride = spec.kind === 'matrix' ? weightRowStride(dtype, spec.shape) : undefined;
  return device.createTensor(`weights/${spec.name}`, dtype, spec.shape, stride);
}

/** Puts the blocks of one weight on the GPU. */
interface WeightWriter {
  /** Returns the bytes handed to the GPU. */
  write(block: RowBlock): number;
  end(): void;
}

function writerFor(device: UploadDevice, spec: WeightSpec, tensor: Tensor, search: boolean = false): WeightWriter {
  const { dtype } = tensor;
  if (dtype === 'q8' || dtype === 'q4')
    return quantizedWriter(device, tensor, { dtype, width: rowWidth(spec), search });
  return {
    write: (block) => {
      if ('quants' in block) throw new RangeError(`Blocks were read for '${spec.name}', which is ${dtype}.`);
      const words = convertBlock(spec, dtype, block);
      // Only matrices have padded rows.
      const stride = spec.kind === 'matrix' ? tensor.rowStride : 1;
      device.write(tensor, words, (block.row * stride) / valuesPerWord(dtype));
      return words.byteLength;
    },
    end: () => undefined,
  };
}

/** Quants go to the GPU block by block. Scales, two a word, are few and follow at the end. */
function quantizedWriter(device: UploadDevice, tensor: Tensor, quantization: RowQuantization): WeightWriter {
  const { dtype } = quantization;
  const rows = tensor.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const [quantPlane, scalePlane] = storagePlanes(dtype, rows, tensor.rowStride);
  const rowWords = (quantPlane?.byteLength ?? 0) / 4 / rows;
  const all = new Uint32Array((scalePlane?.byteLength ?? 0) / 4);
  const scales = new Uint16Array(all.buffer);
  const rowScales = tensor.rowStride / 32;
  return {
    write: (block) => {
      const made = quantizedRows(block, quantization);
      device.write(tensor, made.quants, block.row * rowWords);
      scales.set(made.scales, block.row * rowScales);
      return made.quants.byteLength;
    },
    end: () => device.write(tensor, all, (scalePlane?.byteOffset ?? 0) / 4),
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
