import { toFloat32 } from './convert.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { TensorInfo, TensorSource } from './source.ts';

/**
 * A source whose tensors are stored otherwise than their names say (transposed, transformed, in blocks), as one whose
 * tensors are what Hugging Face's checkpoints have under these names: A becomes A_log again.
 */
export function namedSource(source: TensorSource): TensorSource {
  return {
    tensors: new Map([...source.tensors].map(([name, info]) => [name, plain(info)])),
    read: async (name, start, end, signal) => {
      const info = source.tensors.get(name);
      if (info?.transposed === true) {
        const whole = transpose(await source.read(name, 0, info.byteLength, signal), info);
        return whole.slice(start, end);
      }
      const bytes = await source.read(name, start, end, signal);
      return info?.transformed === true ? toLogarithms(bytes, info) : bytes;
    },
    dispose: () => source.dispose(),
  };
}

function plain({ name, dtype, shape, byteLength, file, byteOffset }: TensorInfo): TensorInfo {
  return { name, dtype, shape, byteLength, file, byteOffset };
}

function toLogarithms(bytes: Uint8Array, { name, dtype }: TensorInfo): Uint8Array {
  if (dtype !== 'F32') throw new RangeError(`'${name}' is transformed, and read as ${dtype}.`);
  const values = toFloat32(bytes, dtype).map((value) => Math.log(-value));
  return new Uint8Array(values.buffer);
}

/** The bytes of a matrix of this shape from those of its transpose. */
function transpose(bytes: Uint8Array, { shape, dtype }: TensorInfo): Uint8Array {
  const [rows = 1, columns = 1] = shape;
  const size = SOURCE_DTYPE_BITS[dtype] / 8;
  const result = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (column * rows + row) * size;
      result.set(bytes.subarray(from, from + size), (row * columns + column) * size);
    }
  }
  return result;
}
