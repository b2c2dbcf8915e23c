import { sampleShader } from '../generated/token/sample.ts';
import { sampleSlicesShader } from '../generated/token/sample_slices.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { flatGrid, multiplySize } from '../core/size.ts';

export interface SampleInputs {
  /** (B, V) f32; rows may be strided */
  readonly logits: TensorRef;
  /** (B) u32, written */
  readonly token: TensorRef;
  /** (B) u32: the counter of the random numbers, 0 when absent; updated in place with `advance` */
  readonly position?: TensorRef;
  /** (B, 4) u32: bits of the f32 temperature, low and high word of the seed, 0. Greedy when absent. */
  readonly settings?: TensorRef;
}

export interface SampleOptions {
  /** Also adds 1 to `position`, after its use. */
  readonly advance?: boolean;
}

/** The token that {@link sample} writes where no logit can be chosen. */
export const NO_TOKEN = 0xffffffff;

/** Logits that one invocation looks at: one block of random numbers. */
const QUAD = 4;

/** A power of two from 32 to 256 that covers `count` where it can. */
function workgroupSizeFor(count: number): number {
  let size = 32;
  while (size < 256 && size < count) size *= 2;
  return size;
}

/**
 * The next token of each sequence, chosen on the GPU.
 *
 * Where `settings` are absent or their temperature is not a positive finite number, the largest logit wins, the first
 * one on ties; this is the same on every device. Otherwise a token is drawn from softmax(logits / temperature), exactly
 * (Gumbel-max): the largest `logit / temperature - log(-log(u))` wins. The random numbers u are Philox-4x32-10 of the
 * seed, the position and the index alone, so that the same three and the same logits give the same token in any batch;
 * between devices only the rounding of the logarithm differs. Their 32 bits never draw a token rarer than 2^-33.
 *
 * A NaN is never chosen, nor is -Infinity drawn at random. Where nothing can be chosen, the token is {@link NO_TOKEN}.
 *
 * @returns `token`
 * @throws ShapeError if a shape or dtype is not as above; ArgumentError if `advance` lacks a position
 *
 * Cost: about 4 B V bytes; 50 flops a logit when drawing. Source: arXiv 1411.0030; Salmon et al., SC 2011.
 */
export function sample(recording: Recording, inputs: SampleInputs, options: SampleOptions = {}): TensorRef {
  const { logits, token, position, settings } = inputs;
  const { advance = false } = options;
  requireDtype('sample', 'logits', logits, 'f32');
  const [batch = 1, width] = requireRank('sample', 'logits', logits, ['B', 'V']);
  const vocabSize = requireStatic('sample', 'V', width);
  requireDtype('sample', 'token', token, 'u32');
  requireShape('sample', 'token', token, [batch]);
  if (position !== undefined) {
    requireDtype('sample', 'position', position, 'u32');
    requireShape('sample', 'position', position, [batch]);
  }
  if (settings !== undefined) {
    requireDtype('sample', 'settings', settings, 'u32');
    requireShape('sample', 'settings', settings, [batch, 4]);
  }
  requireArgument(
    !advance || position !== undefined,
    "sample: 'advance' is set, but there is no 'position'.",
    'Give the position to advance.',
  );
  const sliceWorkgroup = workgroupSizeFor(Math.ceil(vocabSize / QUAD));
  const slices = Math.ceil(vocabSize / (QUAD * sliceWorkgroup));
  const partials = recording.scratch('sample.partials', 'u32', [batch, slices, 2]);
  recording.dispatch(sampleSlicesShader, {
    bindings: {
      logits,
      settings: settings ?? recording.placeholder('u32'),
      position: position ?? recording.placeholder('u32'),
      partials,
    },
    params: {
      batch,
      vocabSize,
      slices,
      logitsOffset: logits.offset,
      logitsStride: strideOfRows('logits', logits, 1),
      settingsOffset: settings?.offset ?? 0,
      settingsStride: settings?.rowStride ?? 0,
      positionOffset: position?.offset ?? 0,
    },
    overrides: {
      WORKGROUP_SIZE: sliceWorkgroup,
      HAS_SETTINGS: settings !== undefined,
      HAS_POSITION: position !== undefined,
    },
    workgroups: flatGrid(multiplySize(batch, slices)),
  });
  const workgroup = workgroupSizeFor(slices);
  recording.dispatch(sampleShader, {
    // A position that stays as it is is not bound, so that nothing waits for this dispatch because of it.
    bindings: {
      partials,
      token,
      position: advance && position !== undefined ? position : recording.placeholder('u32'),
    },
    params: {
      batch,
      slices,
      steps: Math.ceil(slices / workgroup),
      tokenOffset: token.offset,
      positionOffset: position?.offset ?? 0,
    },
    overrides: { WORKGROUP_SIZE: workgroup, ADVANCE: advance },
    workgroups: flatGrid(batch),
  });
  return token;
}
