import type { Device, Tensor } from '@mambalab/kernels';
import type { WeightSpec } from '../spec/weight_spec.ts';
import { packBf16, packF16 } from './convert.ts';
import type { PlannedWeight } from './plan.ts';
import { createWeight } from './upload.ts';

/** Values made on the host and repeated over a tensor: enough variety for timing, cheap for billions of weights. */
const PATTERN = 1 << 20;

/**
 * Weights of a model that exists only as a shape, for measuring speed without a download. The same seed gives the same
 * weights. Matrices are normal with the variance that keeps activations near 1; decays and time steps are in the range
 * of trained models.
 */
export async function randomWeights(
  device: Device,
  plan: readonly PlannedWeight[],
  seed: number,
): Promise<Map<string, Tensor>> {
  const normal = normalPattern(seed);
  const tensors = new Map<string, Tensor>();
  try {
    for (const { spec, dtype } of plan) {
      const tensor = await device.guard(`Allocating ${spec.name}`, () => {
        const made = createWeight(device, spec, dtype);
        tensors.set(spec.name, made);
        return made;
      });
      const values = normal.map(distributionOf(spec));
      const words = dtype === 'f16' ? packF16(values).words : dtype === 'bf16' ? packBf16(values).words : values;
      const total = tensor.byteLength / 4;
      for (let at = 0; at < total; at += words.length) {
        device.write(tensor, words.subarray(0, Math.min(words.length, total - at)), at);
      }
      await device.idle();
    }
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

function distributionOf(spec: WeightSpec): (standard: number) => number {
  const role = spec.name.slice(spec.name.lastIndexOf('.') + 1);
  switch (role) {
    case 'norm':
    case 'finalNorm':
    case 'gateNorm':
    case 'dSkip':
      return () => 1;
    case 'A':
      return (standard) => -1 - Math.min(15, Math.abs(standard) * 4);
    case 'dtBias':
      return (standard) => -4.5 + Math.max(-2, Math.min(2, standard));
    default: {
      const scale = 1 / Math.sqrt(spec.shape[spec.shape.length - 1] ?? 1);
      return (standard) => standard * scale;
    }
  }
}

/** Standard normal values by Box and Muller from a linear congruential generator. */
function normalPattern(seed: number): Float32Array {
  let state = (seed >>> 0) + 1;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: PATTERN },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
