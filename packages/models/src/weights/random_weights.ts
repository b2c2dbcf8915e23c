import type { Device, Tensor } from '@mambalab/kernels';
import { Executor, fillNormal, Recording } from '@mambalab/kernels';
import type { WeightSpec } from '../spec/weight_spec.ts';
import type { PlannedWeight } from './plan.ts';
import { createWeight } from './upload.ts';

/**
 * Weights of a model that exists only as a shape, for measuring speed without a download. The same seed gives the same
 * weights, whatever their dtype up to its rounding. Matrices are made on the GPU: normal numbers with the variance that
 * keeps activations near 1; decays and time steps are in the range of trained models.
 */
export async function randomWeights(
  device: Device,
  plan: readonly PlannedWeight[],
  seed: number,
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  using executor = new Executor(device);
  try {
    const recording = new Recording(device.capabilities);
    const vector = vectorSource(seed);
    let first = 0;
    for (const { spec, dtype } of plan) {
      const tensor = await device.guard(`Allocating ${spec.name}`, () => {
        const made = createWeight(device, spec, dtype);
        tensors.set(spec.name, made);
        return made;
      });
      const values = spec.shape.reduce((product, size) => product * size, 1);
      if (spec.kind === 'vector') {
        device.write(tensor, vector(spec, values));
        continue;
      }
      const width = spec.shape[spec.shape.length - 1] ?? 1;
      const out = recording.external(spec.name, dtype, [values / width, width], tensor.rowStride);
      fillNormal(recording, { out }, { seed, first, scale: 1 / Math.sqrt(width) });
      first += values;
    }
    const filled = await executor.compile(recording);
    filled.bind(tensors).submit();
    await device.idle();
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/** Norms and skip weights, which are 1 where a layer neither grows nor shrinks what it gets. */
const ONES = /(?:norm|finalNorm|postNorm|gateNorm|queryNorm|keyNorm|dtNorm|bNorm|cNorm|attentionNorm|mlpNorm|dSkip)$/;

/** Values of vectors, one after another, from one stream of random numbers. */
function vectorSource(seed: number): (spec: WeightSpec, values: number) => Float32Array {
  const normal = normalNumbers(seed);
  const timeStep = (): number => -4.5 + Math.max(-2, Math.min(2, normal()));
  return (spec, values) => {
    const role = spec.name.slice(spec.name.lastIndexOf('.') + 1);
    const scale = 1 / Math.sqrt(spec.shape[spec.shape.length - 1] ?? 1);
    return Float32Array.from({ length: values }, (_, index) => {
      if (ONES.test(role)) return 1;
      if (role === 'A') return -1 - Math.min(15, Math.abs(normal()) * 4);
      if (role === 'dtBias') return timeStep();
      if (role === 'dtBiasAndSkip') return index < values / 2 ? timeStep() : 1;
      return normal() * scale;
    });
  };
}

/** Standard normal numbers by Box and Muller from a linear congruential generator. */
function normalNumbers(seed: number): () => number {
  let state = (seed >>> 0) + 1;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
