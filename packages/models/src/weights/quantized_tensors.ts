import type { BlockDtype, QuantizedRows } from '@mambalab/kernels';
import {
  ArgumentError,
  fromHalfBits,
  packQuants,
  QUANT_BLOCK,
  unpackQuants,
  WeightFormatError,
  wordsPerBlock,
} from '@mambalab/kernels';
import { isFields, parseJson } from './json.ts';
import type { SafetensorsFile } from './safetensors.ts';
import type { TensorInfo, TensorSource } from './source.ts';

// Matrices in blocks in safetensors files; docs/models/quantized-format.md describes the format.

/** The key of the files' metadata that says which tensors are in blocks. */
export const QUANTIZATION_KEY = 'mambalab.quantization';
const VERSION = 1;

/** A matrix in blocks, as the metadata describes it. */
export interface QuantizedHeader {
  readonly dtype: BlockDtype;
  /** Of the matrix as its name calls for: (rows, width), or (experts, rows, width). */
  readonly shape: readonly number[];
  /** Rows of blocks are columns of a matrix of this shape. */
  readonly transposed?: boolean;
}

/** Bytes of a row of blocks: the quants of all, and the scales of all. */
export function quantizedRowBytes(dtype: BlockDtype, width: number): number {
  return Math.ceil(width / QUANT_BLOCK) * (4 * wordsPerBlock(dtype) + 2);
}

/** The shape of the U8 tensor that holds a matrix in blocks. */
export function quantizedShape({ dtype, shape, transposed = false }: QuantizedHeader): readonly number[] {
  const [first = 1] = shape;
  const rows = transposed ? shape.slice(1) : shape.slice(0, -1);
  return [...rows, quantizedRowBytes(dtype, transposed ? first : (shape[shape.length - 1] ?? 1))];
}

/** The text of the metadata for the matrices in blocks of one file. */
export function quantizationText(tensors: Readonly<Record<string, QuantizedHeader>>): string {
  return JSON.stringify({ version: VERSION, tensors });
}

/** Rows of blocks as a file holds them. */
export function joinRows({ quants, scales }: QuantizedRows, dtype: BlockDtype, width: number): Uint8Array<ArrayBuffer> {
  const { rowBytes, quantBytes, rows } = rowLayout(scales.length, dtype, width);
  const bytes = new Uint8Array(rows * rowBytes);
  const [from, scalesFrom] = [bytesOf(quants), bytesOf(scales)];
  const scaleBytes = rowBytes - quantBytes;
  for (let row = 0; row < rows; row++) {
    bytes.set(from.subarray(row * quantBytes, (row + 1) * quantBytes), row * rowBytes);
    bytes.set(scalesFrom.subarray(row * scaleBytes, (row + 1) * scaleBytes), row * rowBytes + quantBytes);
  }
  return bytes;
}

function splitRows(bytes: Uint8Array, dtype: BlockDtype, width: number): QuantizedRows {
  const { rowBytes, quantBytes, blocks } = rowLayout(0, dtype, width);
  const rows = bytes.byteLength / rowBytes;
  const quants = new Uint32Array((rows * quantBytes) / 4);
  const scales = new Uint16Array(rows * blocks);
  const [to, scalesTo] = [bytesOf(quants), bytesOf(scales)];
  for (let row = 0; row < rows; row++) {
    const at = row * rowBytes;
    to.set(bytes.subarray(at, at + quantBytes), row * quantBytes);
    scalesTo.set(bytes.subarray(at + quantBytes, at + rowBytes), row * 2 * blocks);
  }
  return { quants, scales };
}

function rowLayout(
  scales: number,
  dtype: BlockDtype,
  width: number,
): { readonly rowBytes: number; readonly quantBytes: number; readonly blocks: number; readonly rows: number } {
  const blocks = Math.ceil(width / QUANT_BLOCK);
  return {
    rowBytes: quantizedRowBytes(dtype, width),
    quantBytes: blocks * 4 * wordsPerBlock(dtype),
    blocks,
    rows: scales / blocks,
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Uint32Array | Uint16Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/**
 * A file that may say which of its tensors are matrices in blocks: these can be read as blocks, and as F32.
 *
 * @throws WeightFormatError for a version that is not known here, and for tensors that are not as the metadata says
 */
export function withQuantized(source: SafetensorsFile, file: string): TensorSource {
  const text = source.metadata.get(QUANTIZATION_KEY);
  const headers = new Map(text === undefined ? [] : parseQuantization(text, file));
  const infos = [...headers].map(([name, header]) => quantizedInfo(name, header, source.tensors.get(name), file));
  const tensors = new Map([...source.tensors, ...infos.map((info) => [info.name, info] as const)]);
  if (headers.size === 0) return source;
  const readBlocks: Required<TensorSource>['readBlocks'] = async (name, dtype, row, rows, signal) => {
    const header = headers.get(name);
    if (header === undefined || (header.dtype === 'q8' && dtype === 'q4')) {
      throw new ArgumentError(`There are no ${dtype} blocks of '${name}'.`, 'Ask only for what `blocks.exact` names.');
    }
    const width = widthOf(header);
    const rowBytes = quantizedRowBytes(header.dtype, width);
    const found = splitRows(
      await source.read(name, row * rowBytes, (row + rows) * rowBytes, signal),
      header.dtype,
      width,
    );
    if (header.dtype === dtype) return found;
    // The numbers of q4 are numbers of q8 with the same scale.
    return { quants: packQuants(unpackQuants(found.quants, header.dtype), dtype), scales: found.scales };
  };
  return {
    tensors,
    readBlocks,
    read: async (name, start, end, signal) => {
      const header = headers.get(name);
      const info = tensors.get(name);
      if (header === undefined || info === undefined) return await source.read(name, start, end, signal);
      return await readValues(header, info, start ?? 0, end ?? info.byteLength, (row, rows) =>
        readBlocks(name, header.dtype, row, rows, signal),
      );
    },
    dispose: () => source.dispose(),
  };
}

const widthOf = ({ shape, transposed = false }: QuantizedHeader): number =>
  (transposed ? shape[0] : shape[shape.length - 1]) ?? 1;

/** Bytes `[start, end)` of the values as F32. */
async function readValues(
  header: QuantizedHeader,
  { name, byteLength }: TensorInfo,
  start: number,
  end: number,
  read: (row: number, rows: number) => Promise<QuantizedRows>,
): Promise<Uint8Array> {
  if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= byteLength)) {
    throw new ArgumentError(
      `Bytes ${start} to ${end} of tensor '${name}' were asked for, but it has ${byteLength}.`,
      'Give 0 <= start <= end <= byteLength.',
    );
  }
  const width = widthOf(header);
  const row = Math.floor(start / (4 * width));
  const rows = Math.ceil(end / (4 * width)) - row;
  const { quants, scales } = await read(row, rows);
  const numbers = unpackQuants(quants, header.dtype);
  const blocks = Math.ceil(width / QUANT_BLOCK);
  const values = new Float32Array(rows * width);
  for (let at = 0; at < values.length; at++) {
    const column = at % width;
    const block = Math.floor(at / width) * blocks + Math.floor(column / QUANT_BLOCK);
    values[at] = (numbers[block * QUANT_BLOCK + (column % QUANT_BLOCK)] ?? NaN) * fromHalfBits(scales[block] ?? NaN);
  }
  return new Uint8Array(values.buffer).slice(start - 4 * width * row, end - 4 * width * row);
}

function parseQuantization(text: string, file: string): readonly (readonly [string, QuantizedHeader])[] {
  const fields = parseJson(text, `The metadata '${QUANTIZATION_KEY}' of ${file}`);
  const { version, tensors }: { version?: unknown; tensors?: unknown } = isFields(fields) ? fields : {};
  if (version !== VERSION) {
    throw new WeightFormatError(
      `${file} holds matrices in blocks of version ${JSON.stringify(version)}; this version of mambalab reads ${VERSION}.`,
      'Use a newer version of mambalab, or convert the model again with this one.',
    );
  }
  if (!isFields(tensors)) throw damaged(file, 'names no tensors');
  return Object.entries(tensors).map(([name, value]) => {
    const header = headerOf(value);
    if (header !== undefined) return [name, header] as const;
    throw damaged(
      file,
      `says of '${name}' ${JSON.stringify(value)}, expected { dtype: 'q8' or 'q4', shape: two sizes or three }`,
    );
  });
}

function headerOf(value: unknown): QuantizedHeader | undefined {
  if (!isFields(value)) return undefined;
  const { dtype, shape, transposed = false } = value;
  const isShape = Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size) && size > 0);
  if (!isShape || (dtype !== 'q8' && dtype !== 'q4') || typeof transposed !== 'boolean') return undefined;
  const most = transposed ? 2 : 3;
  if (shape.length < 2 || shape.length > most) return undefined;
  return { dtype, shape: shape as number[], ...(transposed && { transposed }) };
}

/** What readers see: values in F32, of the matrix that the name calls for. */
function quantizedInfo(
  name: string,
  header: QuantizedHeader,
  stored: TensorInfo | undefined,
  file: string,
): TensorInfo {
  if (stored === undefined) throw damaged(file, `names '${name}', which the file does not hold`);
  const { dtype, shape, transposed = false } = header;
  const expected = quantizedShape(header);
  if (stored.dtype !== 'U8' || expected.join() !== stored.shape.join()) {
    const width = widthOf(header);
    const blocks = Math.ceil(width / QUANT_BLOCK);
    throw damaged(
      file,
      `says that '${name}' is ${dtype} (${shape.join(', ')}), which takes U8 (${expected.join(', ')}), rows of ` +
        `${blocks * 4 * wordsPerBlock(dtype)} bytes of quants and ${blocks * 2} of scales; it is ${stored.dtype} (${stored.shape.join(', ')})`,
    );
  }
  const values = shape.reduce((product, size) => product * size, 1);
  return {
    ...stored,
    dtype: 'F32',
    shape,
    byteLength: 4 * values,
    blocks: {
      kind: dtype,
      bits: (8 * stored.byteLength) / values,
      nearest: dtype,
      exact: dtype === 'q4' ? ['q4', 'q8'] : ['q8'],
    },
    ...(transposed && { transposed }),
  };
}

function damaged(file: string, problem: string): WeightFormatError {
  return new WeightFormatError(
    `The metadata '${QUANTIZATION_KEY}' of ${file} ${problem}.`,
    'The file is damaged, or another program wrote it: download it or convert the model again.',
  );
}
