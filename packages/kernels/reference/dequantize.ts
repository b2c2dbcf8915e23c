import { zeros } from './arrays.ts';

export interface DequantizeInputs {
  /** A stored matrix: 32-bit words of quants, then of scales from word `scalesAt` on. */
  readonly words: ArrayLike<number>;
}

export interface DequantizeOptions {
  readonly dtype: 'q8' | 'q4';
  readonly rows: number;
  readonly width: number;
  readonly scalesAt: number;
}

/** The value of 16 bits of half precision: sign, five bits of exponent, ten of fraction. */
function halfOf(bits: number): number {
  const sign = bits < 0x8000 ? 1 : -1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/**
 * The matrix (rows, width) that blocks of quants stand for: value i of a block of 32 is its scale times a signed byte
 * (q8), or times a nibble less 8 (q4). Rows are whole blocks; of every 16 bytes of quants, value 4 j + c is part j of
 * word c. Two scales lie in a word, the first in its lower half.
 */
export function dequantize({ words }: DequantizeInputs, options: DequantizeOptions): Float64Array {
  const { dtype, rows, width, scalesAt } = options;
  const blocks = Math.ceil(width / 32);
  const perLoad = dtype === 'q8' ? 16 : 32;
  const wordAt = (index: number): number => {
    const word = words[index];
    if (word === undefined) throw new RangeError(`word ${index} is outside ${words.length} words`);
    return word;
  };
  const values = zeros(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < width; k++) {
      const stored = row * blocks * 32 + k;
      const part = Math.floor((stored % perLoad) / 4);
      const word = wordAt(Math.floor(stored / perLoad) * 4 + (stored % 4));
      const quant =
        dtype === 'q8'
          ? ((Math.floor(word / 256 ** part) % 256) ^ 128) - 128
          : (Math.floor(word / 16 ** part) % 16) - 8;
      const block = Math.floor(stored / 32);
      const scale = Math.floor(wordAt(scalesAt + Math.floor(block / 2)) / 65536 ** (block % 2)) % 65536;
      values.set(row * width + k, quant * halfOf(scale));
    }
  }
  return values.values;
}
