import { ropeShader } from '../generated/attention/rope.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, isMultiple, maximumSize, multiplySize } from '../core/size.ts';

export interface RopeInputs {
  /** (B, L, H, P) f32: queries or keys; tokens may be strided */
  readonly x: TensorRef;
  /** (rotaryDim / 2) f32, radians per token; see `ropeInverseFrequencies` */
  readonly inverseFrequencies: TensorRef;
  /** (B) u32, tokens before this call; 0 when absent */
  readonly position?: TensorRef;
}

export interface RopeOptions {
  /** Pairs are neighbours (GPT-J) instead of halves (Llama); false when absent. */
  readonly interleaved?: boolean;
  /** Factor of what rotates, as `ropeAttentionFactor` gives it; 1 when absent. */
  readonly scale?: number;
}

const WORKGROUP_SIZE = 256;

/**
 * Rotary position embedding: pair i of a head of token l turns by `f32(position[b] + l) * inverseFrequencies[i]`. The
 * first rotaryDim values of a head rotate (all, or a part as in GPT-NeoX), the others are copied.
 *
 * @returns (B, L, H, P) f32, contiguous
 * @throws ShapeError or ArgumentError if P is odd, rotaryDim exceeds P, `scale` is not finite, or a shape or dtype is wrong
 *
 * Cost: 3 flops and 8 bytes a value. Source: arXiv 2104.09864, equation 34. Sine and cosine are our own, accurate to
 * about 1e-7 for every angle.
 */
export function rope(recording: Recording, inputs: RopeInputs, options: RopeOptions = {}): TensorRef {
  const { x, inverseFrequencies, position } = inputs;
  requireDtype('rope', 'x', x, 'f32');
  const [batch = 1, length = 1, h, p] = requireRank('rope', 'x', x, ['B', 'L', 'H', 'P']);
  const heads = requireStatic('rope', 'H', h);
  const headDim = requireStatic('rope', 'P', p);
  const rotaryDim = requireRotaryDim('rope', inverseFrequencies, headDim);
  requireArgument(
    inverseFrequencies.offset === 0 && (position?.offset ?? 0) === 0,
    "rope: 'inverseFrequencies' or 'position' is a part of a tensor.",
    'Give tensors of their own.',
  );
  if (position !== undefined) {
    requireDtype('rope', 'position', position, 'u32');
    requireShape('rope', 'position', position, [batch]);
  }
  const { scale = 1, interleaved = false } = options;
  requireArgument(Number.isFinite(scale), `rope: 'scale' is ${scale}.`, 'Give a finite factor.');
  const xStride = strideOfRows('x', x, 2);
  const aligned = rotaryDim % 8 === 0 && headDim % 4 === 0 && isMultiple(x.offset, 4) && xStride % 4 === 0;
  const vector = aligned && recording.force['access'] !== 'scalar';
  const values = vector ? 4 : 1;
  const y = recording.scratch('rope.y', 'f32', x.shape);
  const tokens = multiplySize(batch, length);
  const headsEach = headsPerInvocation(maximumSize(tokens));
  const units = Math.ceil(heads / headsEach) * Math.ceil(headDim / (2 * values));
  recording.dispatch(ropeShader, {
    bindings: { x, inverseFrequencies, position: position ?? recording.placeholder('u32'), y },
    params: { tokens, length, xOffset: ceilDivSize(x.offset, values), xStride: xStride / values, scale },
    overrides: {
      WORKGROUP_SIZE,
      HEADS: heads,
      HEAD_WIDTH: headDim / values,
      ROTARY_WIDTH: rotaryDim / values,
      HEADS_EACH: headsEach,
      INTERLEAVED: interleaved,
      HAS_POSITION: position !== undefined,
    },
    choices: { access: vector ? 'vector' : 'scalar' },
    workgroups: flatGrid(ceilDivSize(multiplySize(tokens, units), WORKGROUP_SIZE)),
  });
  return y;
}

/** Heads that share the angles of one invocation: with few tokens, more invocations matter more than fewer sines. */
export function headsPerInvocation(tokens: number): number {
  return tokens <= 16 ? 1 : 4;
}

/** Values of a head that rotate. @throws ArgumentError or ShapeError unless the frequencies suit an even P */
export function requireRotaryDim(kernel: string, inverseFrequencies: TensorRef, headDim: number): number {
  requireArgument(
    headDim > 0 && headDim % 2 === 0,
    `${kernel}: a head must have an even number of values; found ${headDim}.`,
    'Pad the heads of the projection with zeros.',
  );
  requireDtype(kernel, 'inverseFrequencies', inverseFrequencies, 'f32');
  const [size] = requireRank(kernel, 'inverseFrequencies', inverseFrequencies, ['rotaryDim / 2']);
  const pairs = requireStatic(kernel, 'rotaryDim / 2', size);
  requireArgument(
    2 * pairs <= headDim,
    `${kernel}: ${pairs} frequencies turn ${2 * pairs} values; a head has ${headDim}.`,
    'Give one frequency for each pair of values that rotates.',
  );
  return 2 * pairs;
}
