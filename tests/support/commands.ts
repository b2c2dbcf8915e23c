import type { Device } from '@mambalab/kernels';
import { wrapDevice } from '@mambalab/kernels';

/** The module with one device for all who request one and dispose of it, so that shaders are compiled once. */
export function withSharedDevice<T extends { readonly requestDevice: () => Promise<Device> }>(kernels: T): T {
  let shared: Promise<Device> | undefined;
  return {
    ...kernels,
    requestDevice: async (): Promise<Device> => {
      shared ??= kernels.requestDevice();
      return wrapDevice((await shared).gpu);
    },
  };
}
