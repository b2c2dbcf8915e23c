import type { BlockDtype } from '@mambalab/kernels';
import { fromHalfBits, packQuants } from '@mambalab/kernels';
import type { QuantizedRows } from '@mambalab/kernels';

/** How many values a block has and how many bytes it takes, for each storage type that is read here. */
export const GGUF_KINDS = {
  F32: { values: 1, bytes: 4 },
  F16: { values: 1, bytes: 2 },
  BF16: { values: 1, bytes: 2 },
  Q4_0: { values: 32, bytes: 18 },
  Q4_1: { values: 32, bytes: 20 },
  Q5_0: { values: 32, bytes: 22 },
  Q5_1: { values: 32, bytes: 24 },
  Q8_0: { values: 32, bytes: 34 },
  Q4_K: { values: 256, bytes: 144 },
  Q5_K: { values: 256, bytes: 176 },
  Q6_K: { values: 256, bytes: 210 },
} as const;

export type GgufKind = keyof typeof GGUF_KINDS;
export type FloatKind = 'F32' | 'F16' | 'BF16';
/** Storage types of blocks with scales. */
export type BlockKind = Exclude<GgufKind, FloatKind>;
/** Those whose values are a quant times the scale of 32 of them, without an offset. */
export type SymmetricKind = 'Q4_0' | 'Q5_0' | 'Q8_0';

/** Names of all storage types by their numbers in the format, those that are not read here for messages. */
export const GGUF_TYPE_NAMES: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  30: 'BF16',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
  40: 'NVFP4',
};

export function isBlockKind(kind: GgufKind): kind is BlockKind {
  return kind !== 'F32' && kind !== 'F16' && kind !== 'BF16';
}

function isSymmetric(kind: GgufKind): kind is SymmetricKind {
  return kind === 'Q4_0' || kind === 'Q5_0' || kind === 'Q8_0';
}

/**
 * The block formats of the GPU that hold exactly what a storage type holds: quants of 4 and 5 bits are quants of 8, too,
 * with the same scale.
 */
export function exactDtypes(kind: GgufKind): readonly BlockDtype[] {
  if (kind === 'Q4_0') return ['q4', 'q8'];
  return isSymmetric(kind) ? ['q8'] : [];
}

/**
 * Whole blocks as float32, bit by bit what the Python package `gguf` makes of them.
 *
 * @param bytes a whole number of blocks
 */
export function dequantizeBlocks(kind: BlockKind, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const { values, bytes: blockBytes } = GGUF_KINDS[kind];
  const blocks = bytes.byteLength / blockBytes;
  const result = new Float32Array(blocks * values);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const half = (at: number): number => fromHalfBits(view.getUint16(at, true));
  const decode = DECODERS[kind];
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    decode(bytes.subarray(at, at + blockBytes), (offset) => half(at + offset), result, block * values);
  }
  return result;
}

/** Rows of blocks in a block format of the GPU that holds the same numbers (see {@link exactDtypes}). */
export function repackBlocks(kind: GgufKind, bytes: Uint8Array, dtype: BlockDtype): QuantizedRows {
  if (!isSymmetric(kind) || !exactDtypes(kind).includes(dtype)) {
    throw new RangeError(`Blocks of ${kind} are not exactly ${dtype}.`);
  }
  const { values, bytes: blockBytes } = GGUF_KINDS[kind];
  const blocks = bytes.byteLength / blockBytes;
  const quants = new Int8Array(blocks * values);
  const scales = new Uint16Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const stored = bytes.subarray(block * blockBytes, (block + 1) * blockBytes);
    scales[block] = (stored[0] ?? 0) | ((stored[1] ?? 0) << 8);
    READ_QUANTS[kind](stored, quants, block * values);
  }
  return { quants: packQuants(quants, dtype), scales };
}

/** Puts the quants of one block into `out` from `first` on. */
type ReadQuants = (block: Uint8Array, out: Int8Array | Float32Array, first: number) => void;

const READ_QUANTS: Readonly<Record<SymmetricKind, ReadQuants>> = {
  Q4_0: (block, out, first) => readNibbles(block, 2, out, first, -8),
  Q5_0: (block, out, first) => {
    readNibbles(block, 6, out, first, -16);
    addHighBits(block, 2, out, first);
  },
  Q8_0: (block, out, first) => {
    for (let i = 0; i < 32; i++) out[first + i] = ((block[2 + i] ?? 0) << 24) >> 24;
  },
};

/** 16 bytes: value i in the low half of byte i, value i + 16 in the high half. */
function readNibbles(block: Uint8Array, at: number, out: Int8Array | Float32Array, first: number, added: number): void {
  for (let i = 0; i < 16; i++) {
    const pair = block[at + i] ?? 0;
    out[first + i] = (pair & 15) + added;
    out[first + 16 + i] = (pair >> 4) + added;
  }
}

/** 4 bytes: the fifth bit of value i is bit i. */
function addHighBits(block: Uint8Array, at: number, out: Int8Array | Float32Array, first: number): void {
  for (let i = 0; i < 32; i++) {
    if ((((block[at + (i >> 3)] ?? 0) >> (i & 7)) & 1) === 1) out[first + i] = (out[first + i] ?? 0) + 16;
  }
}

/** Writes the values of one block from `first` on. `half` gives the f16 at an offset of the block. */
type Decode = (block: Uint8Array, half: (offset: number) => number, out: Float32Array, first: number) => void;

// Sums and products of few digits are exact in float64, so that storing them rounds once, as float32 arithmetic does.
const DECODERS: Readonly<Record<BlockKind, Decode>> = {
  Q4_0: symmetric('Q4_0'),
  Q5_0: symmetric('Q5_0'),
  Q8_0: symmetric('Q8_0'),
  Q4_1: (block, half, out, first) => {
    readNibbles(block, 4, out, first, 0);
    scaleAndAdd(out, first, 32, half(0), half(2));
  },
  Q5_1: (block, half, out, first) => {
    readNibbles(block, 8, out, first, 0);
    addHighBits(block, 4, out, first);
    scaleAndAdd(out, first, 32, half(0), half(2));
  },
  Q4_K: (block, half, out, first) => {
    // 128 bytes: each 32 hold two runs of 32 values, the low halves and the high ones.
    for (let i = 0; i < 128; i++) {
      const pair = block[16 + i] ?? 0;
      const at = first + 2 * (i & ~31) + (i & 31);
      out[at] = pair & 15;
      out[at + 32] = pair >> 4;
    }
    scaleRuns(block, half, out, first);
  },
  Q5_K: (block, half, out, first) => {
    // As above; the fifth bit of value i of run r is bit r of byte i in front.
    for (let i = 0; i < 128; i++) {
      const pair = block[48 + i] ?? 0;
      const run = 2 * (i >> 5);
      const high = (block[16 + (i & 31)] ?? 0) >> run;
      const at = first + 32 * run + (i & 31);
      out[at] = (pair & 15) | ((high & 1) << 4);
      out[at + 32] = (pair >> 4) | ((high & 2) << 3);
    }
    scaleRuns(block, half, out, first);
  },
  Q6_K: (block, half, out, first) => {
    const d = half(208);
    for (let i = 0; i < 256; i++) {
      // Halves of 128 values: four runs of 32, of which two share bytes of low nibbles and all share bytes of high bits.
      const run = (i >> 5) & 3;
      const low = block[64 * (i >> 7) + 32 * (run & 1) + (i & 31)] ?? 0;
      const high = (block[128 + 32 * (i >> 7) + (i & 31)] ?? 0) >> (2 * run);
      const quant = ((low >> (run >= 2 ? 4 : 0)) & 15) | ((high & 3) << 4);
      const scale = Math.fround(d * (((block[192 + (i >> 4)] ?? 0) << 24) >> 24));
      out[first + i] = scale * (quant - 32);
    }
  },
};

function symmetric(kind: SymmetricKind): Decode {
  return (block, half, out, first) => {
    READ_QUANTS[kind](block, out, first);
    const d = half(0);
    for (let i = 0; i < 32; i++) out[first + i] = d * (out[first + i] ?? 0);
  };
}

function scaleAndAdd(out: Float32Array, first: number, count: number, scale: number, added: number): void {
  for (let i = first; i < first + count; i++) out[i] = scale * (out[i] ?? 0) + added;
}

/** Scales and offsets of eight runs of 32 values: 6 bits each in the 12 bytes from byte 4 on, times an f16 of the block. */
function scaleRuns(block: Uint8Array, half: (offset: number) => number, out: Float32Array, first: number): void {
  const [d, dmin] = [half(0), half(2)];
  const packed = (index: number): number => block[4 + index] ?? 0;
  for (let run = 0; run < 8; run++) {
    const isLow = run < 4;
    const scale = isLow ? packed(run) & 63 : (packed(run + 4) & 15) | ((packed(run - 4) >> 6) << 4);
    const minimum = isLow ? packed(run + 4) & 63 : (packed(run + 4) >> 4) | ((packed(run) >> 6) << 4);
    scaleAndAdd(out, first + 32 * run, 32, d * scale, -(dmin * minimum));
  }
}
