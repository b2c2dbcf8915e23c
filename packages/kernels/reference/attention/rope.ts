import { float64, Reals, type Numbers } from '../arrays.ts';
import { ropeInverseFrequencies } from './rope_inverse_frequencies.ts';

export interface RopeInputs {
  /** (B, L, H, P): queries, or keys with H = Hkv */
  readonly x: Numbers;
}

export interface RopeOptions {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  /** Position of token 0; 0 by default. */
  readonly start?: number | undefined;
  /** The first rotaryDim elements of a head rotate, the rest pass through; headDim by default. */
  readonly rotaryDim?: number | undefined;
  /** Base of the frequencies when `inverseFrequencies` is left out; 10000 by default. */
  readonly theta?: number | undefined;
  /** (rotaryDim / 2), radians per token */
  readonly inverseFrequencies?: Numbers | undefined;
  /** false (the default): pair i is elements i and i + rotaryDim/2. true: elements 2i and 2i + 1. */
  readonly interleaved?: boolean | undefined;
  /** Factor of what rotates; 1 by default. */
  readonly scale?: number | undefined;
}

/**
 * Rotates pair i of a head at position m by the angle m f[i]: (a, b) becomes (a cos - b sin, b cos + a sin), times scale.
 *
 * Shapes: x and y (B, L, H, P). Source: *RoFormer* (arXiv 2104.09864), equation 34; `apply_rotary_pos_emb` with
 * `rotate_half` (Llama), and its interleaved form (GPT-J).
 */
export function rope(inputs: RopeInputs, options: RopeOptions): Float64Array {
  const { batch, length, heads, headDim, start = 0, rotaryDim = headDim, theta = 10000 } = options;
  const { interleaved = false, scale = 1 } = options;
  const pairs = rotaryDim / 2;
  const frequencies = options.inverseFrequencies ?? ropeInverseFrequencies({ theta, rotaryDim });
  const inverseFrequencies = float64('inverseFrequencies', frequencies, pairs);
  const x = float64('x', inputs.x, batch, length, heads, headDim);
  const y = new Reals(x.values.slice());
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      for (let h = 0; h < heads; h++) {
        const head = ((b * length + l) * heads + h) * headDim; // x, y [b, l, h, 0]
        for (let i = 0; i < pairs; i++) {
          const angle = (start + l) * inverseFrequencies.at(i);
          const first = head + (interleaved ? 2 * i : i);
          const second = interleaved ? first + 1 : first + pairs;
          const [cosine, sine] = [scale * Math.cos(angle), scale * Math.sin(angle)];
          y.set(first, x.at(first) * cosine - x.at(second) * sine);
          y.set(second, x.at(second) * cosine + x.at(first) * sine);
        }
      }
    }
  }
  return y.values;
}
