import { readTensor } from './safetensors.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { ByteFile, TensorInfo, TensorSource } from './source.ts';

/** A tensor and the file that holds it. */
export interface StoredTensor {
  readonly file: ByteFile;
  readonly info: TensorInfo;
}

/** Bytes `[start, end)` of a stored tensor. */
export interface TensorSlice {
  readonly tensor: StoredTensor;
  readonly start: number;
  readonly end: number;
}

/** A tensor put together from parts of others when it is read. */
export interface JoinedTensor {
  readonly info: TensorInfo;
  /** Its bytes as if they were a file. */
  readonly file: ByteFile;
}

/** A tensor of any shape whose bytes are those of slices, one after another. */
export function joinSlices(name: string, shape: readonly number[], slices: readonly TensorSlice[]): JoinedTensor {
  const merged: TensorSlice[] = [];
  for (const slice of slices) {
    const last = merged.at(-1);
    if (last !== undefined && last.tensor === slice.tensor && last.end === slice.start) {
      merged[merged.length - 1] = { ...last, end: slice.end };
    } else if (slice.end > slice.start) {
      merged.push(slice);
    }
  }
  return joined(name, shape, merged, async (start, end, signal) => {
    const bytes = new Uint8Array(end - start);
    const reads: Promise<void>[] = [];
    let at = 0;
    for (const { tensor, start: first, end: last } of merged) {
      // The part of this slice that was asked for, in bytes of the joined tensor.
      const from = Math.max(start, at);
      const to = Math.min(end, at + last - first);
      if (from < to) {
        const shift = first - at;
        reads.push(readPart(tensor, from + shift, to + shift, signal).then((part) => bytes.set(part, from - start)));
      }
      at += last - first;
    }
    await Promise.all(reads);
    return bytes;
  });
}

/** A matrix (rows, columns) whose rows are the rows of parts side by side. All parts have the same number of rows. */
export function joinColumns(name: string, parts: readonly StoredTensor[]): JoinedTensor {
  const [rows = 0] = parts[0]?.info.shape ?? [];
  const columns = parts.reduce((sum, { info }) => sum + (info.shape[1] ?? 0), 0);
  const widths = parts.map(({ info }) => ((info.shape[1] ?? 0) * SOURCE_DTYPE_BITS[info.dtype]) / 8);
  const rowBytes = widths.reduce((sum, width) => sum + width, 0);
  const whole = parts.map((tensor) => ({ tensor, start: 0, end: tensor.info.byteLength }));
  if (parts.length === 1) return joinSlices(name, [rows, columns], whole);
  return joined(name, [rows, columns], whole, async (start, end, signal) => {
    const firstRow = Math.floor(start / rowBytes);
    const count = Math.ceil(end / rowBytes) - firstRow;
    const bytes = new Uint8Array(count * rowBytes);
    let column = 0;
    for (const [index, tensor] of parts.entries()) {
      const width = widths[index] ?? 0;
      const part = await readPart(tensor, firstRow * width, (firstRow + count) * width, signal);
      for (let row = 0; row < count; row++) {
        bytes.set(part.subarray(row * width, (row + 1) * width), row * rowBytes + column);
      }
      column += width;
    }
    return bytes.slice(start - firstRow * rowBytes, end - firstRow * rowBytes);
  });
}

/** Joined tensors as a source. */
export function joinedSource(tensors: readonly JoinedTensor[], dispose: () => Promise<void>): TensorSource {
  const byName = new Map(tensors.map((tensor) => [tensor.info.name, tensor]));
  return {
    tensors: new Map(tensors.map(({ info }) => [info.name, info])),
    read: (name, start, end, signal) => {
      const tensor = byName.get(name);
      return readTensor(tensor?.file, tensor && { ...tensor.info, byteOffset: 0 }, name, start, end, signal);
    },
    dispose,
  };
}

function joined(
  name: string,
  shape: readonly number[],
  slices: readonly TensorSlice[],
  read: ByteFile['read'],
): JoinedTensor {
  const byteLength = slices.reduce((sum, { start, end }) => sum + end - start, 0);
  const [first] = slices;
  if (first === undefined) throw new RangeError(`The tensor '${name}' is joined from nothing.`);
  const { dtype, file, byteOffset } = first.tensor.info;
  return {
    info: { name, dtype, shape, byteLength, file, byteOffset: byteOffset + first.start },
    file: { name, size: () => Promise.resolve(byteLength), read },
  };
}

/** Bytes of a stored tensor, counted from its own first byte. */
function readPart(
  { file, info }: StoredTensor,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  return file.read(info.byteOffset + start, info.byteOffset + end, signal);
}
