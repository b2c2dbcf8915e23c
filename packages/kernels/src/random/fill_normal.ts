// Longer than most host halves: rows of plain values and blocks of quants are checked and placed apart.
import { fillNormalShader } from '../generated/random/fill_normal.ts';
import { requireArgument, requireDtype, requireSeed, requireStatic } from '../core/checks.ts';
import { isQuantized, matrixRowStride, valuesPerWord } from '../core/dtype.ts';
import { ShapeError } from '../core/errors.ts';
import { fromHalfBits, toHalfBits } from '../core/host.ts';
import type { WeightDtype } from '../core/matrix.ts';
import { requireWeight, valuesPerLoad } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { addSize, ceilDivSize, flatGrid, isMultiple, maximumSize, multiplySize, productSize } from '../core/size.ts';

export interface FillNormalInputs {
  /** (..., W) f32, f16 or bf16, rows may be strided; or a whole (R, W) matrix of q8 or q4; written */
  readonly out: TensorRef;
}

export interface FillNormalOptions {
  /** 53 bits as a whole number, or 64 as a low and a high word. */
  readonly seed: number | readonly [number, number];
  /** Number of the first value, a whole number below 2^53; 0 when absent. */
  readonly first?: number | undefined;
  /** The standard deviation; 1 when absent. */
  readonly scale?: number | undefined;
  /** The mean, 0 for q8 and q4; 0 when absent. */
  readonly offset?: number | undefined;
}

const WORKGROUP_SIZE = 64;
/** Values that a u32 counts. */
const MOST_VALUES = 2 ** 32 - 1;

/**
 * Quants of one standard deviation before they are rounded, and the standard deviation of what becomes of them: rounding
 * widens it, and the largest quants (127 and 7) are 4 and 2.7 of it from the mean.
 */
const SPREADS = {
  q8: { spread: 32, deviation: 31.999105734449458 },
  q4: { spread: 2.75, deviation: 2.7389765562455097 },
} as const;

/**
 * Fills a tensor with normally distributed numbers: `out[r, c] = offset + scale * z(first + r W + c)`. z(i) depends on the
 * seed and on i alone, never on the shape, the dtype or the dispatch, so that rows of a tensor, or tensors that are parts
 * of one, may be filled one by one. The numbers are those of Philox-4x32-10, none of which `sample` draws.
 *
 * f16 and bf16 are rounded. q8 and q4 are rounded to multiples of one scale for all blocks and limited to 4 and 2.7
 * standard deviations; the scale is such that `scale` is the deviation of what is stored. Nothing is written between rows,
 * where new tensors hold zeros, but rows of f16 and bf16 end with a whole word and those of q8 and q4 with a whole block.
 *
 * @returns `out`
 * @throws ShapeError for another dtype, rows that do not begin with a whole word, a part of a matrix of blocks, or more
 *   than 2^32 - 1 values; ArgumentError if an option is outside what it may be
 *
 * Cost: about 100 operations a value, most of them on whole numbers, and the bytes of the values. Source: Box and Muller,
 * 1958; Salmon et al., SC 2011.
 */
export function fillNormal(recording: Recording, inputs: FillNormalInputs, options: FillNormalOptions): TensorRef {
  const { out } = inputs;
  const { first = 0, scale = 1, offset = 0 } = options;
  requireDtype('fillNormal', 'out', out, 'f32', 'f16', 'bf16', 'q8', 'q4');
  const dtype = out.dtype as WeightDtype;
  const [seedLow, seedHigh] = requireSeed('fillNormal', options.seed);
  requireNumbers({ first, scale, offset });
  const place = isQuantized(dtype) ? blocksOf(out) : plainRows(out);
  const { rows, width, stride } = place;
  const loads = ceilDivSize(isQuantized(dtype) ? stride : width, valuesPerLoad(dtype));
  const perWord = valuesPerWord(dtype);
  recording.dispatch(fillNormalShader, {
    bindings: { y: out },
    params: {
      rows,
      width,
      loads,
      yOffset: ceilDivSize(out.offset, perWord),
      yStride: stride / perWord,
      yScales: place.scales,
      blocks: multiplySize(rows, Math.ceil(stride / 32)),
      firstLow: first >>> 0,
      firstHigh: Math.floor(first / 2 ** 32),
      seedLow,
      seedHigh,
      ...(isQuantized(dtype) ? scalesOf(dtype, scale, offset) : { offset, scale, scaleBits: 0 }),
    },
    overrides: { WORKGROUP_SIZE, ALIGNED: first % 4 === 0 && (rows === 1 || isMultiple(width, 4)) },
    choices: { weight: dtype },
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, loads), WORKGROUP_SIZE)),
  });
  return out;
}

/** Rows as the shader counts them: in values, `scales` in words. */
interface Place {
  readonly rows: Size;
  readonly width: Size;
  readonly stride: number;
  readonly scales: number;
}

/** Rows of values that stand alone. @throws ShapeError unless they begin with whole words and can be counted */
function plainRows(out: TensorRef): Place {
  const width = requireStatic('fillNormal', 'W', out.shape[out.shape.length - 1]);
  const stride = strideOfRows('out', out, 1);
  const perWord = valuesPerWord(out.dtype);
  if (stride % perWord !== 0 || !isMultiple(out.offset, perWord)) {
    throw new ShapeError(
      `fillNormal: rows of 'out' (${out.dtype}) lie ${stride} values apart and must begin with a whole word.`,
      `Give a row stride and an offset that are multiples of ${perWord}.`,
    );
  }
  const rows = productSize(out.shape.slice(0, -1));
  requireCountable(maximumSize(addSize(out.offset, multiplySize(rows, stride))));
  // Rows without gaps are one: no load is cut off at their ends.
  if (stride === width) return { rows: 1, width: multiplySize(rows, width), stride: 0, scales: 0 };
  return { rows, width, stride, scales: 0 };
}

/** Whole blocks. @throws ShapeError unless it is all of a matrix */
function blocksOf(out: TensorRef): Place {
  const { outputs: rows, inner: width, stride, scales } = requireWeight('fillNormal', 'out', out);
  const whole = out.offset === 0 && rows === out.storage.rows && stride === matrixRowStride(out.dtype, width);
  if (whole) return { rows, width, stride, scales: scales * 4 };
  throw new ShapeError(
    `fillNormal: 'out' (${out.dtype}) is a part of a matrix, with whose other parts its scales share words.`,
    'Give the whole matrix, or make the parts tensors of their own.',
  );
}

function requireCountable(values: number): void {
  if (values <= MOST_VALUES) return;
  throw new ShapeError(
    `fillNormal: 'out' ends ${values} values behind the beginning of its tensor; shaders count up to ${MOST_VALUES}.`,
    'Fill several tensors of rows, each with its own number of the first value.',
  );
}

/** @throws ArgumentError unless all are numbers that their option can be */
function requireNumbers({ first, scale, offset }: Readonly<Record<'first' | 'scale' | 'offset', number>>): void {
  requireArgument(
    Number.isSafeInteger(first) && first >= 0,
    `fillNormal: 'first' is ${first}.`,
    'Give a whole number below 2^53.',
  );
  requireArgument(
    Number.isFinite(scale) && scale >= 0,
    `fillNormal: 'scale' is ${scale}.`,
    'Give a standard deviation, a finite number that is not negative.',
  );
  requireArgument(Number.isFinite(offset), `fillNormal: 'offset' is ${offset}.`, 'Give a finite number.');
}

/** What makes quants of normal numbers. @throws ArgumentError unless one f16 scale stands for the deviation and mean */
function scalesOf(
  dtype: 'q8' | 'q4',
  scale: number,
  offset: number,
): Readonly<Record<'offset' | 'scale' | 'scaleBits', number>> {
  const { spread, deviation } = SPREADS[dtype];
  requireArgument(
    offset === 0,
    `fillNormal: 'offset' is ${offset} for ${dtype}, whose blocks have no offset.`,
    'Leave it out, or fill another dtype.',
  );
  const step = scale / deviation;
  const scaleBits = toHalfBits(step);
  const stored = fromHalfBits(scaleBits);
  requireArgument(
    Math.abs(stored - step) <= step / 100,
    `fillNormal: 'scale' is ${scale}, for which blocks of ${dtype} need the scale ${step}; the nearest of f16 is ${stored}.`,
    'Give a standard deviation between 0.0001 and 100000, or fill another dtype.',
  );
  return { offset: 0, scale: spread, scaleBits };
}
