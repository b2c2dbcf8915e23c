import type { Device, Dtype, Tensor } from '@mambalab/kernels';
import { IntegrityError, valuesPerWord } from '@mambalab/kernels';
import { weightRowStride } from '../graph/names.ts';
import type { WeightSpec } from '../spec/weight_spec.ts';
import { countNonFinite, toFloat32, toPackedBf16, toPackedF16 } from './convert.ts';
import type { PlannedWeight } from './plan.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { TensorSource } from './source.ts';

/** Bytes of a checkpoint that are in memory at a time. */
const BLOCK_BYTES = 16 * 2 ** 20;
/** Bytes handed to the GPU's queue before waiting for it, since the queue keeps copies until they are done. */
const IN_FLIGHT_BYTES = 128 * 2 ** 20;

export interface UploadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes read so far. */
  readonly onBytes?: ((loaded: number) => void) | undefined;
}

/** Bytes of the checkpoint that the plan reads. */
export function plannedBytes(plan: readonly PlannedWeight[], source: TensorSource): number {
  return plan.reduce(
    (sum, { spec }) =>
      sum + spec.sources.reduce((part, { name }) => part + (source.tensors.get(name)?.byteLength ?? 0), 0),
    0,
  );
}

/**
 * Streams weights from a checkpoint to the GPU, block by block: read, convert, transform, write.
 * On any failure the tensors made so far are freed.
 *
 * @throws IntegrityError if a weight is not finite, or a conversion to f16 overflows
 */
export async function uploadWeights(
  device: Device,
  plan: readonly PlannedWeight[],
  source: TensorSource,
  options: UploadOptions = {},
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  let loaded = 0;
  let inFlight = 0;
  try {
    for (const { spec, dtype } of plan) {
      const tensor = await device.guard(`Allocating ${spec.name}`, () => {
        const made = createWeight(device, spec, dtype);
        // Known before the allocation is: a refused buffer is freed with the others.
        tensors.set(spec.name, made);
        return made;
      });
      for await (const block of blocksOf(spec, source, options.signal)) {
        const values = convertBlock(spec, dtype, block);
        device.write(tensor, values, wordsBefore(block, spec, tensor));
        loaded += block.bytes.byteLength;
        inFlight += values.byteLength;
        options.onBytes?.(loaded);
        if (inFlight > IN_FLIGHT_BYTES) {
          await device.idle();
          inFlight = 0;
        }
      }
    }
    await device.idle();
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/** A tensor for a weight, zeroed: the padding behind each row of a matrix stays zero. */
export function createWeight(device: Device, spec: WeightSpec, dtype: Dtype): Tensor {
  const stride = spec.kind === 'matrix' ? weightRowStride(dtype, spec.shape) : undefined;
  return device.createTensor(`weights/${spec.name}`, dtype, spec.shape, stride);
}

/**
 * Whole rows of one source tensor, and the row of the weight that the first of them is. The rows of a vector are its
 * values: parts of a vector, such as the biases of query, key and value, need not be equally long.
 */
interface Block {
  readonly source: string;
  readonly row: number;
  readonly rows: number;
  readonly bytes: Uint8Array;
  readonly sourceDtype: Parameters<typeof toFloat32>[1];
}

const rowWidth = ({ kind, shape }: WeightSpec): number => (kind === 'matrix' ? (shape[shape.length - 1] ?? 1) : 1);

/** Where a block begins in the tensor on the GPU: only matrices have padded rows. */
function wordsBefore(block: Block, spec: WeightSpec, tensor: Tensor): number {
  return (block.row * (spec.kind === 'matrix' ? tensor.rowStride : 1)) / valuesPerWord(tensor.dtype);
}

async function* blocksOf(spec: WeightSpec, source: TensorSource, signal?: AbortSignal): AsyncGenerator<Block> {
  const width = rowWidth(spec);
  let row = 0;
  for (const { name, shape } of spec.sources) {
    const info = source.tensors.get(name);
    if (info === undefined) throw new RangeError(`The plan names the tensor '${name}', which the source lacks.`);
    const rowBytes = (width * SOURCE_DTYPE_BITS[info.dtype]) / 8;
    const rows = shape.reduce((product, size) => product * size, 1) / width;
    const step = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
    for (let first = 0; first < rows; first += step) {
      signal?.throwIfAborted();
      const count = Math.min(step, rows - first);
      const bytes = await source.read(name, first * rowBytes, (first + count) * rowBytes, signal);
      yield { source: name, row: row + first, rows: count, bytes, sourceDtype: info.dtype };
    }
    row += rows;
  }
}

/** The words of a block as the GPU stores them, rows padded for matrices. */
function convertBlock(spec: WeightSpec, dtype: Dtype, block: Block): Float32Array | Uint32Array {
  if (dtype === 'f16' || dtype === 'bf16') {
    const convert = dtype === 'f16' ? toPackedF16 : toPackedBf16;
    const { words, overflows } = convert(block.bytes, block.sourceDtype);
    if (overflows > 0) {
      throw new IntegrityError(
        `${overflows} values of '${block.source}' are beyond the range of ${dtype}.`,
        "Load the model with dtype 'bf16' or 'f32'.",
      );
    }
    checkFinite(block, countNonFiniteHalves(words, dtype));
    return padRows(new Uint16Array(words.buffer), spec, dtype, block.rows, Uint16Array);
  }
  let values = toFloat32(block.bytes, block.sourceDtype);
  if (spec.transform === 'negativeExp') values = values.map((value) => -Math.exp(value));
  checkFinite(block, countNonFinite(values));
  return spec.kind === 'matrix' ? padRows(values, spec, dtype, block.rows, Float32Array) : values;
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

function checkFinite(block: Block, count: number): void {
  if (count === 0) return;
  throw new IntegrityError(
    `${count} values of '${block.source}' (rows ${block.row} to ${block.row + block.rows - 1}) are NaN or infinite.`,
    'The checkpoint is damaged, or its training diverged; download or export it again.',
  );
}
