import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { isMultiple } from '../core/size.ts';

/** What the gated delta rule and its one-token form have in common; `...` stands for (B, L) or (B). All f32. */
export interface GatedDeltaTensors {
  /** (..., Hk, K); rows of heads may be strided; value head h reads key head floor(h Hk / Hv) */
  readonly q: TensorRef;
  /** (..., Hk, K); rows of heads may be strided */
  readonly k: TensorRef;
  /** (..., Hv, V); rows of heads may be strided */
  readonly v: TensorRef;
  /** (..., Hv), the log decay, at most 0; with A, raw: the log decay is then `A softplus(g + dtBias)`; strided too */
  readonly g: TensorRef;
  /** (..., Hv); rows may be strided */
  readonly beta: TensorRef;
  /** (Hv), negative: -exp(A_log) */
  readonly A?: TensorRef;
  /** (Hv), only with A */
  readonly dtBias?: TensorRef;
  /** (B, Hv, K, V), updated in place */
  readonly state?: TensorRef;
}

export interface GatedDeltaOptions {
  /** Whether beta is given before its sigmoid; false when absent. */
  readonly betaSigmoid?: boolean;
  /** Multiplies beta, after the sigmoid; 1 when absent, 2 for models that allow negative eigenvalues (OLMo-Hybrid). */
  readonly betaFactor?: number;
  /** Whether rows of q and k are made of unit length first: `x / sqrt(sum x^2 + eps)`; false when absent. */
  readonly l2Norm?: boolean;
  /** 1e-6 when absent. */
  readonly eps?: number;
  /** Multiplies q; 1 / sqrt(K) when absent. */
  readonly scale?: number;
}

/** Sizes that every kernel of this family takes from its inputs. */
export interface GatedDeltaSizes {
  readonly keyHeads: number;
  readonly heads: number;
  /** Value heads of a key head. */
  readonly ratio: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

/** The options with their defaults. */
export interface GatedDeltaNumbers {
  readonly betaFactor: number;
  readonly scale: number;
  readonly eps: number;
}

/** More would not fit in the workgroup memory that every device has. */
const LARGEST_HEAD = 256;

/**
 * Checks dtypes and shapes against each other.
 *
 * @param sequence the leading dimensions, (B, L) or (B), with their letters
 */
export function requireDelta(
  kernel: string,
  tensors: GatedDeltaTensors,
  sequence: readonly Size[],
  letters: readonly string[],
): GatedDeltaSizes {
  for (const [name, tensor] of Object.entries(tensors) as [string, TensorRef | undefined][]) {
    if (tensor !== undefined) requireDtype(kernel, name, tensor, 'f32');
  }
  const { q, k, v, g, beta, A, dtBias, state } = tensors;
  const kShape = requireRank(kernel, 'k', k, [...letters, 'Hk', 'K']);
  const vShape = requireRank(kernel, 'v', v, [...letters, 'Hv', 'V']);
  const keyHeads = requireStatic(kernel, 'Hk', kShape[letters.length]);
  const keyDim = requireStatic(kernel, 'K', kShape[letters.length + 1]);
  const heads = requireStatic(kernel, 'Hv', vShape[letters.length]);
  const valueDim = requireStatic(kernel, 'V', vShape[letters.length + 1]);
  requireArgument(
    heads % keyHeads === 0,
    `${kernel}: ${heads} value heads do not divide into ${keyHeads} key heads.`,
    'Give q and k a number of heads that divides the number of value heads.',
  );
  for (const [name, size] of [
    ['K', keyDim],
    ['V', valueDim],
  ] as const) {
    requireArgument(
      size % 4 === 0 && size <= LARGEST_HEAD,
      `${kernel}: heads of ${name} = ${size} values are not supported.`,
      `Use multiples of 4 up to ${LARGEST_HEAD}; pad q, k or v with zeros.`,
    );
  }
  requireShape(kernel, 'k', k, [...sequence, keyHeads, keyDim]);
  requireShape(kernel, 'q', q, [...sequence, keyHeads, keyDim]);
  requireShape(kernel, 'v', v, [...sequence, heads, valueDim]);
  requireShape(kernel, 'g', g, [...sequence, heads]);
  requireShape(kernel, 'beta', beta, [...sequence, heads]);
  requireArgument(
    A !== undefined || dtBias === undefined,
    `${kernel}: 'dtBias' is given without 'A'.`,
    'Give both and a raw g, or neither and the log decay itself.',
  );
  for (const [name, vector] of [
    ['A', A],
    ['dtBias', dtBias],
  ] as const) {
    if (vector === undefined) continue;
    requireShape(kernel, name, vector, [heads]);
    requireArgument(vector.offset === 0, `${kernel}: '${name}' is a part of a tensor.`, 'Give a tensor of its own.');
  }
  if (state !== undefined) {
    requireShape(kernel, 'state', state, [sequence[0] ?? 1, heads, keyDim, valueDim]);
    requireArgument(
      isMultiple(state.offset, 4) && strideOfRows('state', state, 3) % 4 === 0,
      `${kernel}: 'state' does not lie at multiples of 4 values.`,
      'Give it a tensor of its own.',
    );
  }
  return { keyHeads, heads, ratio: heads / keyHeads, keyDim, valueDim };
}

/** The options with their defaults. @throws ArgumentError unless the numbers are finite and eps not negative */
export function deltaNumbers(kernel: string, options: GatedDeltaOptions, keyDim: number): GatedDeltaNumbers {
  const numbers = {
    betaFactor: options.betaFactor ?? 1,
    scale: options.scale ?? 1 / Math.sqrt(keyDim),
    eps: options.eps ?? 1e-6,
  };
  for (const [name, value] of Object.entries(numbers)) {
    requireArgument(Number.isFinite(value), `${kernel}: ${name} is ${value}.`, 'Give a finite number.');
  }
  requireArgument(numbers.eps > 0, `${kernel}: eps is ${numbers.eps}.`, 'Give a positive number, such as 1e-6.');
  return numbers;
}
