import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';

/** What Mamba-3 remembers of a sequence; all f32, updated in place. */
export interface Mamba3States {
  /** (B, H, S), radians from 0 to 2 pi */
  readonly angleState: TensorRef;
  /** (B, H, P, N) */
  readonly state: TensorRef;
  /** (B, H, N), the last key with its bias, rotated */
  readonly kState: TensorRef;
  /** (B, H, P), the last v */
  readonly vState: TensorRef;
}

/** What the scan and its one-token form have in common; `...` stands for (B, L) or (B). All f32, rows may be strided. */
export interface Mamba3Tensors {
  /** (..., Hqk, N); head h reads floor(h Hqk / H) */
  readonly q: TensorRef;
  /** (..., Hqk, N) */
  readonly k: TensorRef;
  /** (..., H, P) */
  readonly v: TensorRef;
  /** (..., H), the time step itself, after softplus */
  readonly dt: TensorRef;
  /** (..., H), A dt, not positive */
  readonly adt: TensorRef;
  /** (..., H), raw: its sigmoid is the share of the trapezoid's later end */
  readonly trap: TensorRef;
  /** (..., H, S), raw: pi tanh of it is the angular velocity; S <= N / 2 pairs of a key turn */
  readonly angles: TensorRef;
  /** (H, N), added to q before it turns */
  readonly qBias: TensorRef;
  /** (H, N), added to k before it turns */
  readonly kBias: TensorRef;
  /** (H), the skip weight */
  readonly D?: TensorRef;
  /** (..., H, P), the gate before its activation */
  readonly z?: TensorRef;
}

/** Sizes that both kernels take from their inputs. */
export interface Mamba3Sizes {
  readonly heads: number;
  readonly headDim: number;
  readonly stateSize: number;
  /** Heads that share q and k */
  readonly group: number;
  /** S */
  readonly rotary: number;
}

const LARGEST = 256;

/**
 * Checks dtypes and shapes against each other.
 *
 * @param sequence the leading dimensions, (B, L) or (B), with their letters
 */
export function requireMamba3(
  kernel: string,
  tensors: Mamba3Tensors & Partial<Mamba3States>,
  sequence: readonly Size[],
  letters: readonly string[],
): Mamba3Sizes {
  for (const [name, tensor] of Object.entries(tensors) as [string, TensorRef | undefined][]) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
  const { q, k, v, dt, adt, trap, angles, qBias, kBias, D, z } = tensors;
  const qShape = requireRank(kernel, 'q', q, [...letters, 'Hqk', 'N']);
  const vShape = requireRank(kernel, 'v', v, [...letters, 'H', 'P']);
  const angleShape = requireRank(kernel, 'angles', angles, [...letters, 'H', 'S']);
  const shared = requireStatic(kernel, 'Hqk', qShape[letters.length]);
  const stateSize = requireStatic(kernel, 'N', qShape[letters.length + 1]);
  const heads = requireStatic(kernel, 'H', vShape[letters.length]);
  const headDim = requireStatic(kernel, 'P', vShape[letters.length + 1]);
  const rotary = requireStatic(kernel, 'S', angleShape[letters.length + 1]);
  requireArgument(
    heads % shared === 0,
    `${kernel}: ${heads} heads do not divide into ${shared} heads of q and k.`,
    'Give q and k a number of heads that divides that of v.',
  );
  requireArgument(
    stateSize % 2 === 0 && stateSize <= LARGEST && headDim <= LARGEST,
    `${kernel}: keys of ${stateSize} and values of ${headDim} are outside what it may be.`,
    `Keys turn in pairs: use an even N, and N and P of at most ${LARGEST}.`,
  );
  requireArgument(
    rotary <= stateSize / 2,
    `${kernel}: ${rotary} angles are more than the ${stateSize / 2} pairs of a key.`,
    'Give at most N / 2 angles; the other pairs do not turn.',
  );
  requireShape(kernel, 'k', k, [...sequence, shared, stateSize]);
  for (const [name, tensor] of Object.entries({ dt, adt, trap }))
    requireShape(kernel, name, tensor, [...sequence, heads]);
  requireShape(kernel, 'angles', angles, [...sequence, heads, rotary]);
  requireShape(kernel, 'qBias', qBias, [heads, stateSize]);
  requireShape(kernel, 'kBias', kBias, [heads, stateSize]);
  if (D !== undefined) requireShape(kernel, 'D', D, [heads]);
  if (z !== undefined) requireShape(kernel, 'z', z, [...sequence, heads, headDim]);
  const [batch = 1] = sequence;
  const states = { angleState: [rotary], state: [headDim, stateSize], kState: [stateSize], vState: [headDim] };
  for (const name of ['angleState', 'state', 'kState', 'vState'] as const) {
    const tensor = tensors[name];
    if (tensor !== undefined) requireShape(kernel, name, tensor, [batch, heads, ...states[name]]);
  }
  return { heads, headDim, stateSize, group: heads / shared, rotary };
}

/** The offset of a matrix whose rows follow each other. @throws ShapeError if they do not */
export function wholeOffset(name: string, tensor: TensorRef): Size {
  strideOfRows(name, tensor, 2);
  return tensor.offset;
}
