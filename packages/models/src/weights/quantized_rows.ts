import type { BlockDtype, QuantizedRows } from '@mambalab/kernels';
import { ArgumentError, fromHalfBits, IntegrityError, quantizeRows, toHalfBits } from '@mambalab/kernels';
import { countNonFinite, toFloat32 } from './convert.ts';
import type { RowBlock, ValueRows } from './rows.ts';

/** How rows become blocks. */
export interface RowQuantization {
  readonly dtype: BlockDtype;
  /** Values of a row. */
  readonly width: number;
  /** Whether `q4` searches for its scales. */
  readonly search: boolean;
}

/**
 * Rows of a weight in blocks: as they are stored, or quantized. A factor of the rows is that of their scales, so that
 * what is quantized here and what was quantized before are the same.
 *
 * @throws IntegrityError for values that are not finite, or need a scale beyond f16
 */
export function quantizedRows(block: RowBlock, quantization: RowQuantization): QuantizedRows {
  const rows = 'quants' in block ? block : quantize(block, quantization);
  const scales =
    block.scale === 1 ? rows.scales : rows.scales.map((bits) => toHalfBits(fromHalfBits(bits) * block.scale));
  const infinite = scales.reduce((count, bits) => count + ((bits & 0x7c00) === 0x7c00 ? 1 : 0), 0);
  checkFinite(block, infinite * 32);
  return { quants: rows.quants, scales };
}

function quantize(block: ValueRows, { dtype, width, search }: RowQuantization): QuantizedRows {
  const values = toFloat32(block.bytes, block.dtype);
  checkFinite(block, countNonFinite(values));
  try {
    return quantizeRows(values, width, dtype, { search });
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new IntegrityError(
      `Values of '${block.source}' (${placeOf(block)}) are too large for ${dtype}, whose scales are f16.`,
      "Store them as they are ('exact' in `quantization.tensors`), or use dtype 'bf16' or 'f32'.",
      { cause },
    );
  }
}

/** @throws IntegrityError if some values of a block are not finite */
export function checkFinite(block: RowBlock, count: number): void {
  if (count === 0) return;
  throw new IntegrityError(
    `${count} values of '${block.source}' (${placeOf(block)}) are NaN or infinite.`,
    'The checkpoint is damaged, or its training diverged; download or export it again.',
  );
}

const placeOf = ({ row, rows }: RowBlock): string => `rows ${row} to ${row + rows - 1} of its weight`;
