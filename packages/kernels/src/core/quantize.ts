import { QUANT_BLOCK } from './dtype.ts';
import { ArgumentError, ShapeError } from './errors.ts';
import { fromHalfBits, toHalfBits } from './host.ts';

// The block formats, block by block: what a value becomes, and where it stands. docs/architecture.md describes them.

export type BlockDtype = 'q8' | 'q4';

export interface QuantizeOptions {
  /**
   * For `q4`, tries several scales for each block and keeps the one with the smallest squared error; about twenty times
   * the work. `q8` has no use for it.
   */
  readonly search?: boolean | undefined;
}

/** Bits of a quant, the largest one, and what is added to it in storage (q8 is stored as two's complement). */
const FORMATS = {
  q8: { bits: 8, least: -127, most: 127, bias: 0 },
  q4: { bits: 4, least: -8, most: 7, bias: 8 },
} as const;

/** Words of a block's quants: 8 for `q8`, 4 for `q4`. */
export const wordsPerBlock = (dtype: BlockDtype): number => (QUANT_BLOCK * FORMATS[dtype].bits) / 32;

/** Quantized rows as they are stored: the quants, and one f16 scale for each block. */
export interface QuantizedRows {
  readonly quants: Uint32Array;
  readonly scales: Uint16Array;
}

/**
 * Quantizes whole rows, each padded with zeros to whole blocks. Pieces of a matrix that are quantized one after another
 * give the planes of the whole when they are joined.
 *
 * @param values row-major, a whole number of rows of `width` values
 * @throws ShapeError if that is no whole number; ArgumentError for a value that is not finite, or so large that the scale
 *   of its block has no f16
 */
export function quantizeRows(
  values: ArrayLike<number>,
  width: number,
  dtype: BlockDtype,
  options: QuantizeOptions = {},
): QuantizedRows {
  const { bits, bias } = FORMATS[dtype];
  const rows = values.length / width;
  if (!Number.isInteger(rows) || !Number.isInteger(width) || width < 1) {
    throw new ShapeError(`${values.length} values are no rows of ${width}.`, 'Give whole rows.');
  }
  const blocks = Math.ceil(width / QUANT_BLOCK);
  const words = wordsPerBlock(dtype);
  const quants = new Uint32Array(rows * blocks * words);
  const scales = new Uint16Array(rows * blocks);
  const block = new Float32Array(QUANT_BLOCK);
  for (let at = 0; at < scales.length; at++) {
    const row = Math.floor(at / blocks);
    const first = (at % blocks) * QUANT_BLOCK;
    for (let i = 0; i < QUANT_BLOCK; i++) block[i] = first + i < width ? (values[row * width + first + i] ?? NaN) : 0;
    const scale = scaleOf(block, dtype, options);
    scales[at] = toHalfBits(scale);
    for (let i = 0; i < QUANT_BLOCK; i++) {
      const stored = (quantOf(block[i] ?? 0, scale, dtype) + bias) & (2 ** bits - 1);
      const { word, shift } = placeOf(i, dtype);
      quants[at * words + word] = (quants[at * words + word] ?? 0) | (stored << shift);
    }
  }
  return { quants, scales };
}

/**
 * Quants as they are stored, from numbers: q of the format's value, d * q.
 *
 * @param quants whole blocks, one after another
 * @throws ShapeError if they are no whole blocks
 */
export function packQuants(quants: Int8Array, dtype: BlockDtype): Uint32Array<ArrayBuffer> {
  if (quants.length % QUANT_BLOCK !== 0) {
    throw new ShapeError(`${quants.length} quants are no whole blocks of ${QUANT_BLOCK}.`, 'Pad the rows.');
  }
  const { bits, bias } = FORMATS[dtype];
  const mask = 2 ** bits - 1;
  const words = wordsPerBlock(dtype);
  const { wordOf, shiftOf } = blockPlaces(dtype);
  const packed = new Uint32Array((quants.length / QUANT_BLOCK) * words);
  for (let first = 0, block = 0; first < quants.length; first += QUANT_BLOCK, block += words) {
    for (let i = 0; i < QUANT_BLOCK; i++) {
      const at = block + (wordOf[i] ?? 0);
      packed[at] = (packed[at] ?? 0) | ((((quants[first + i] ?? 0) + bias) & mask) << (shiftOf[i] ?? 0));
    }
  }
  return packed;
}

/** Numbers from quants as they are stored, block by block: the inverse of {@link packQuants}. */
export function unpackQuants(quants: Uint32Array, dtype: BlockDtype): Int8Array {
  const { bits, bias } = FORMATS[dtype];
  const words = wordsPerBlock(dtype);
  const unpacked = new Int8Array((quants.length / words) * QUANT_BLOCK);
  const { wordOf, shiftOf } = blockPlaces(dtype);
  // A byte is a signed number already; a nibble has none.
  const mask = bias > 0 ? 2 ** bits - 1 : -1;
  for (let first = 0, block = 0; first < unpacked.length; first += QUANT_BLOCK, block += words) {
    for (let i = 0; i < QUANT_BLOCK; i++) {
      unpacked[first + i] = (((quants[block + (wordOf[i] ?? 0)] ?? 0) >>> (shiftOf[i] ?? 0)) & mask) - bias;
    }
  }
  return unpacked;
}

/** The value that a block's quant stands for, exactly as kernels read it. */
export function dequantized(
  quants: Uint32Array,
  scale: number,
  block: number,
  index: number,
  dtype: BlockDtype,
): number {
  const { bits, bias } = FORMATS[dtype];
  const { word, shift } = placeOf(index, dtype);
  const stored = (quants[block * wordsPerBlock(dtype) + word] ?? 0) >>> shift;
  const quant = bias > 0 ? (stored & (2 ** bits - 1)) - bias : (stored << 24) >> 24;
  return quant * fromHalfBits(scale);
}

/**
 * Where a value of a block stands: of sixteen bytes, value 4 j + c is byte j (q8, two sixteens a block) or nibble j (q4)
 * of word c.
 */
function placeOf(index: number, dtype: BlockDtype): { readonly word: number; readonly shift: number } {
  const { bits } = FORMATS[dtype];
  const perLoad = 128 / bits;
  const within = index % perLoad;
  return { word: Math.floor(index / perLoad) * 4 + (within % 4), shift: Math.floor(within / 4) * bits };
}

/** As {@link placeOf}, of all values of a block: what loops over many blocks look up. */
function blockPlaces(dtype: BlockDtype): { readonly wordOf: Uint8Array; readonly shiftOf: Uint8Array } {
  const places = Array.from({ length: QUANT_BLOCK }, (_, index) => placeOf(index, dtype));
  return {
    wordOf: Uint8Array.from(places, ({ word }) => word),
    shiftOf: Uint8Array.from(places, ({ shift }) => shift),
  };
}

function quantOf(value: number, scale: number, dtype: BlockDtype): number {
  if (scale === 0) return 0;
  const { least, most } = FORMATS[dtype];
  return Math.min(most, Math.max(least, Math.round(value / scale)));
}

/** The scale of a block, an f16. */
function scaleOf(block: Float32Array, dtype: BlockDtype, { search = false }: QuantizeOptions): number {
  let extreme = 0;
  for (const value of block) {
    if (!Number.isFinite(value)) throw refusal(dtype, value);
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  if (extreme === 0) return 0;
  // q8 is symmetric. q4 has one negative quant more: the largest value becomes it, so that the scale may be negative.
  const last = dtype === 'q8' ? 127 : 8;
  const bits = toHalfBits(dtype === 'q8' ? Math.abs(extreme) / last : extreme / -last);
  // Where f16 becomes coarse, below 6e-5, the nearest scale may leave the largest value out of reach: then the next one.
  const reaches = Math.abs(fromHalfBits(bits)) * (last + 0.5) >= Math.abs(extreme);
  const plain = fromHalfBits(reaches ? bits : bits + 1);
  if (!Number.isFinite(plain)) throw refusal(dtype, extreme);
  return dtype === 'q4' && search ? searchScale(block, extreme, plain) : plain;
}

const half = (value: number): number => fromHalfBits(toHalfBits(value));

/** What the largest value of a block becomes in the candidates of the search; the plain scale makes it -8. */
const ANCHORS = [-9, -8.5, -8, -7.6, -7.2, -6.8, 6.4, 6.8, 7.2, 7.6, 8];

/**
 * The scale with the smallest squared error among the plain one and, for each candidate, the one that fits the
 * candidate's quants best: sum(v q) / sum(q^2).
 */
function searchScale(block: Float32Array, extreme: number, plain: number): number {
  let best = plain;
  let least = squaredError(block, plain);
  for (const anchor of ANCHORS) {
    const candidate = extreme / anchor;
    let products = 0;
    let squares = 0;
    for (const value of block) {
      const quant = quantOf(value, candidate, 'q4');
      products += value * quant;
      squares += quant * quant;
    }
    const fitted = half(products / squares);
    // Zero where every quant is; infinite where f16 ends.
    if (!Number.isFinite(fitted) || fitted === 0) continue;
    const error = squaredError(block, fitted);
    if (error < least) {
      least = error;
      best = fitted;
    }
  }
  return best;
}

function squaredError(block: Float32Array, scale: number): number {
  let sum = 0;
  for (const value of block) sum += (value - quantOf(value, scale, 'q4') * scale) ** 2;
  return sum;
}

function refusal(dtype: BlockDtype, value: number): ArgumentError {
  return new ArgumentError(
    Number.isFinite(value)
      ? `A block with the value ${value} needs a scale beyond f16 in ${dtype}.`
      : `${value} cannot be stored in ${dtype}.`,
    'Store this matrix as f32 or bf16.',
  );
}
