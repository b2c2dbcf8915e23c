import type { Device, Dtype, Tensor } from '@mambalab/kernels';
import { weightRowStride } from '../graph/names.ts';
import type { WeightSpec } from '../spec/weight_spec.ts';
import type { PlannedWeight } from './plan.ts';
import type { WeightPieces } from './weight_pieces.ts';

/** Bytes handed to the GPU's queue before waiting for those of the time before, since the queue keeps copies until they are done. */
const IN_FLIGHT_BYTES = 64 * 2 ** 20;

/** What uploading needs of a device. */
export type UploadDevice = Pick<Device, 'createTensor' | 'guard' | 'idle' | 'write'>;

export interface UploadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes that are uploaded so far, all of them, and the file of the last ones. */
  readonly onBytes?: ((loaded: number, total: number, file: string) => void) | undefined;
}

/**
 * Writes weights to the GPU piece by piece. On any failure the tensors made so far are freed.
 *
 * @throws what reading the pieces throws
 */
export async function uploadWeights(
  device: UploadDevice,
  plan: readonly PlannedWeight[],
  pieces: WeightPieces,
  { signal, onBytes }: UploadOptions = {},
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  const begin = ({ spec, dtype }: PlannedWeight): Promise<Tensor> =>
    device.guard(`Allocating ${spec.name}`, () => {
      const made = createWeight(device, spec, dtype);
      // Known before the allocation is: a refused buffer is freed with the others.
      tensors.set(spec.name, made);
      return made;
    });
  let loaded = 0;
  let written = 0;
  let before = Promise.resolve();
  try {
    for await (const { weight, wordOffset, words, bytes, file } of pieces.read(signal)) {
      device.write(tensors.get(weight.spec.name) ?? (await begin(weight)), words, wordOffset);
      loaded += bytes;
      if (bytes > 0) onBytes?.(loaded, pieces.totalBytes, file);
      signal?.throwIfAborted();
      written += words.byteLength;
      if (written < IN_FLIGHT_BYTES) continue;
      written = 0;
      await before;
      before = device.idle();
      // A failure shows when it is waited for.
      before.catch(() => undefined);
    }
    await device.idle();
    return inOrder(plan, tensors);
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/** The tensors in the order of their plan, which is not that of the pieces. */
function inOrder(plan: readonly PlannedWeight[], tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const ordered = new Map<string, Tensor>();
  for (const { spec } of plan) {
    const tensor = tensors.get(spec.name);
    if (tensor !== undefined) ordered.set(spec.name, tensor);
  }
  return ordered;
}

/** A tensor for a weight, zeroed: the padding behind each row of a matrix stays zero. */
export function createWeight(device: Pick<Device, 'createTensor'>, spec: WeightSpec, dtype: Dtype): Tensor {
  const stride = spec.kind === 'matrix' ? weightRowStride(dtype, spec.shape) : undefined;
  return device.createTensor(`weights/${spec.name}`, dtype, spec.shape, stride);
}
