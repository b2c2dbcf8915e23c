import type { Dtype } from './dtype.ts';
import { ArgumentError, ShapeError } from './errors.ts';
import type { TensorRef } from './recording.ts';
import type { Size } from './size.ts';
import { formatShape, maximumSize, sameSize } from './size.ts';

/** @throws ShapeError unless the tensor's dtype is one of `dtypes` */
export function requireDtype(kernel: string, name: string, tensor: TensorRef, ...dtypes: readonly Dtype[]): void {
  if (dtypes.includes(tensor.dtype)) return;
  throw new ShapeError(
    `${kernel}: '${name}' must be ${dtypes.join(' or ')}; found ${tensor.dtype}.`,
    'Convert it before the call.',
  );
}

/** @throws ShapeError unless the tensor has exactly this shape */
export function requireShape(kernel: string, name: string, tensor: TensorRef, shape: readonly Size[]): void {
  const same =
    tensor.shape.length === shape.length && shape.every((size, axis) => sameSize(size, tensor.shape[axis] ?? -1));
  if (same) return;
  throw new ShapeError(
    `${kernel}: '${name}' must have the shape ${formatShape(shape)}; found ${formatShape(tensor.shape)}.`,
    'Check it against the shapes in the documentation of the kernel.',
  );
}

/**
 * The sizes of a tensor of a known rank.
 *
 * @throws ShapeError if the rank differs
 */
export function requireRank(
  kernel: string,
  name: string,
  tensor: TensorRef,
  letters: readonly string[],
): readonly Size[] {
  if (tensor.shape.length === letters.length) return tensor.shape;
  throw new ShapeError(
    `${kernel}: '${name}' must have the shape (${letters.join(', ')}); found ${formatShape(tensor.shape)}.`,
    'Reshape it before the call.',
  );
}

/** A size that must be known when the recording is made. @throws ShapeError if it is a named size */
export function requireStatic(kernel: string, name: string, size: Size | undefined): number {
  if (typeof size === 'number') return size;
  throw new ShapeError(
    `${kernel}: the size ${name} must be known when the recording is made.`,
    size === undefined
      ? 'Give a tensor of the documented rank.'
      : `It varies up to ${maximumSize(size)} here; only batch and length may.`,
  );
}

/** @throws ArgumentError unless the condition holds; `hint` says what to do instead */
export function requireArgument(condition: boolean, message: string, hint: string): void {
  if (!condition) throw new ArgumentError(message, hint);
}

/** @throws ArgumentError if a tensor that a shader reads from its beginning, without gaps, is a part of another */
export function requireWhole(kernel: string, name: string, tensor: TensorRef): void {
  requireArgument(
    tensor.offset === 0 && (tensor.shape.length === 1 || tensor.rowStride === tensor.rowWidth),
    `${kernel}: '${name}' is a part of a tensor.`,
    'Give a tensor of its own.',
  );
}

/**
 * The low and the high word of a seed of 64 bits: a whole number of 53, or two words.
 *
 * @throws ArgumentError if it is neither
 */
export function requireSeed(kernel: string, seed: number | readonly [number, number]): readonly [number, number] {
  if (typeof seed === 'number') {
    const isSeed = Number.isSafeInteger(seed) && seed >= 0;
    requireArgument(isSeed, `${kernel}: 'seed' is ${seed}.`, 'Give a whole number below 2^53, or two words.');
    return [seed >>> 0, Math.floor(seed / 2 ** 32)];
  }
  for (const word of seed) {
    const isWord = Number.isInteger(word) && word >= 0 && word <= 0xffffffff;
    requireArgument(isWord, `${kernel}: 'seed' has the word ${word}.`, 'Give two whole numbers below 2^32.');
  }
  return seed;
}
