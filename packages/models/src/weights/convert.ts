import { f16ToF32Bits, f32BitsToBf16, f32BitsToF16, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { SourceDtype } from './source.ts';

/** Values of 16 bits, two a word: element 2i in the low half of word i, element 2i+1 in the high half. */
export interface PackedWords {
  /** ceil(n / 2) words; the high half of the last is 0 if n is odd. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** How many finite values became infinite because the 16-bit type does not reach that far. */
  readonly overflows: number;
}

const F32_INFINITY = 0x7f800000;

/**
 * Stored elements as float32. F32 is passed on without arithmetic (and without a copy where alignment allows: the
 * result may share memory with `bytes`); F16 and BF16 are exact; F64 is rounded to nearest even.
 *
 * @throws UnsupportedModelError for other dtypes; WeightFormatError if `bytes` is not a whole number of elements.
 */
export function toFloat32(bytes: Uint8Array, dtype: SourceDtype): Float32Array {
  checkWhole(bytes, dtype);
  switch (dtype) {
    case 'F32': {
      const { buffer, byteOffset } = aligned(bytes, 4);
      return new Float32Array(buffer, byteOffset, bytes.byteLength / 4);
    }
    case 'F64': {
      const { buffer, byteOffset } = aligned(bytes, 8);
      return new Float32Array(new Float64Array(buffer, byteOffset, bytes.byteLength / 8));
    }
    case 'F16':
      return halvesToFloat32(halves(bytes), f16ToF32Bits);
    case 'BF16':
      return halvesToFloat32(halves(bytes), (half) => half << 16);
    default:
      throw new UnsupportedModelError(
        `Weights are stored as ${dtype}, expected F32, F16, BF16 or F64.`,
        'Use a checkpoint in one of these types.',
      );
  }
}

/** Stored elements as packed f16. F16 stays as it is, and may share memory with `bytes`; everything else goes through float32 (see {@link packF16}). */
export function toPackedF16(bytes: Uint8Array, dtype: SourceDtype): PackedWords {
  return dtype === 'F16' ? copyHalves(bytes, dtype) : packF16(toFloat32(bytes, dtype));
}

/** Stored elements as packed bf16. BF16 stays as it is, and may share memory with `bytes`; everything else goes through float32 (see {@link packBf16}). */
export function toPackedBf16(bytes: Uint8Array, dtype: SourceDtype): PackedWords {
  return dtype === 'BF16' ? copyHalves(bytes, dtype) : packBf16(toFloat32(bytes, dtype));
}

/** Rounds to nearest even; beyond 65504 (from 65520 on) to infinity, which is counted; NaN stays NaN. */
export function packF16(values: Float32Array): PackedWords {
  return pack(values, f32BitsToF16);
}

/** Rounds to nearest even; beyond the largest bf16 to infinity, which is counted; NaN stays NaN. */
export function packBf16(values: Float32Array): PackedWords {
  return pack(values, f32BitsToBf16);
}

/** How many of the values are infinite or NaN. */
export function countNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let count = 0;
  for (const word of bits) if ((word & F32_INFINITY) === F32_INFINITY) count++;
  return count;
}

function pack(values: Float32Array, convert: (bits: number) => number): PackedWords {
  const words = new Uint32Array(Math.ceil(values.length / 2));
  const out = new Uint16Array(words.buffer);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const infinity = convert(F32_INFINITY);
  let overflows = 0;
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] ?? 0;
    const half = convert(word);
    out[i] = half;
    if ((half & 0x7fff) === infinity && (word & 0x7fffffff) !== F32_INFINITY) overflows++;
  }
  return { words, overflows };
}

function halvesToFloat32(source: Uint16Array, convert: (half: number) => number): Float32Array {
  const values = new Float32Array(source.length);
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < source.length; i++) bits[i] = convert(source[i] ?? 0);
  return values;
}

function copyHalves(bytes: Uint8Array, dtype: SourceDtype): PackedWords {
  checkWhole(bytes, dtype);
  const { buffer, byteLength } = bytes;
  // Gigabytes pass here: what fills its buffer is words already.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength && byteLength % 4 === 0) {
    return { words: new Uint32Array(buffer), overflows: 0 };
  }
  const words = new Uint32Array(Math.ceil(byteLength / 4));
  new Uint8Array(words.buffer).set(bytes);
  return { words, overflows: 0 };
}

function halves(bytes: Uint8Array): Uint16Array {
  const { buffer, byteOffset } = aligned(bytes, 2);
  return new Uint16Array(buffer, byteOffset, bytes.byteLength / 2);
}

/** Typed arrays need an aligned start, which a slice of a file does not always have. */
function aligned(bytes: Uint8Array, alignment: number): Uint8Array {
  return bytes.byteOffset % alignment === 0 ? bytes : new Uint8Array(bytes);
}

function checkWhole(bytes: Uint8Array, dtype: SourceDtype): void {
  if ((bytes.byteLength * 8) % SOURCE_DTYPE_BITS[dtype] !== 0) {
    throw new WeightFormatError(
      `${bytes.byteLength} bytes are no whole number of ${dtype} elements.`,
      'Read ranges that begin and end between elements.',
    );
  }
}
