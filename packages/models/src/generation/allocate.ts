import type { Device, Dtype, Tensor } from '@mambalab/kernels';

export interface TensorShape {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Tensors by name, all of them or none: what was made before one that the device refuses is freed. */
export function createTensors(device: Device, prefix: string, shapes: readonly TensorShape[]): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  try {
    for (const { name, dtype, shape } of shapes) {
      tensors.set(name, device.createTensor(`${prefix}/${name}`, dtype, shape));
    }
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/**
 * Runs `make` in a {@link Device.guard}, and frees what it made where the GPU refused some of it.
 *
 * @throws OutOfMemoryError
 */
export async function guarded<T>(device: Device, what: string, make: () => T, free: (made: T) => void): Promise<T> {
  let made: { readonly value: T } | undefined;
  try {
    return await device.guard(what, () => {
      made = { value: make() };
      return made.value;
    });
  } catch (error) {
    if (made !== undefined) free(made.value);
    throw error;
  }
}
