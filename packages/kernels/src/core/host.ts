const F32_INFINITY = 0x7f800000;

/** The float32 bit pattern of an f16 bit pattern; exact, and keeps the payload of a NaN. */
export function f16ToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return sign | F32_INFINITY | ((magnitude & 0x3ff) << 13);
  // Rebias the exponent from 15 to 127.
  if (magnitude >= 0x400) return sign | ((magnitude << 13) + ((127 - 15) << 23));
  if (magnitude === 0) return sign;
  // Subnormal: magnitude * 2^-24. Shift its leading one to bit 23, where float32 leaves it implicit.
  const leading = 31 - Math.clz32(magnitude);
  const mantissa = (magnitude << (23 - leading)) & 0x7fffff;
  return sign | ((leading - 24 + 127) << 23) | mantissa;
}

/** The f16 bit pattern nearest to a float32 bit pattern, ties to even. */
export function f32BitsToF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // 0x477ff000 is 65520, halfway between the largest f16 and the next power of two.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // 0x38800000 is 2^-14, the smallest normal f16.
  if (magnitude >= 0x38800000) {
    const rebiased = magnitude - ((127 - 15) << 23);
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // 0x33000000 is 2^-25, half the smallest subnormal: it ties to zero.
  if (magnitude <= 0x33000000) return sign;
  // value = mantissa * 2^(exponent - 150), and one unit of a subnormal f16 is 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const quotient = mantissa >>> shift;
  const remainder = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const roundUp = remainder > half || (remainder === half && (quotient & 1) === 1);
  return sign | (roundUp ? quotient + 1 : quotient);
}

/** The bf16 bit pattern nearest to a float32 bit pattern, ties to even. */
export function f32BitsToBf16(bits: number): number {
  // Truncating a NaN could clear its payload and leave infinity: set the quiet bit.
  if ((bits & 0x7fffffff) > F32_INFINITY) return (bits >>> 16) | 0x40;
  return ((bits >>> 0) + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

// One number as its bits and back.
const scratch = new DataView(new ArrayBuffer(4));

function bitsOf(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function valueOf(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

/** Nearest half-precision number, ties to even, as its 16 bits. Beyond 65504 it is infinite. */
export function toHalfBits(value: number): number {
  return f32BitsToF16(bitsOf(value));
}

/** The value of 16 half-precision bits. */
export function fromHalfBits(bits: number): number {
  return valueOf(f16ToF32Bits(bits));
}

/** Nearest bfloat16 number, ties to even, as its 16 bits. */
export function toBfloatBits(value: number): number {
  return f32BitsToBf16(bitsOf(value));
}

/** The value of 16 bfloat16 bits. */
export function fromBfloatBits(bits: number): number {
  return valueOf((bits & 0xffff) << 16);
}
