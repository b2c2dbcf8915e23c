import type { HostTensor, Tensor } from '@mambalab/kernels';
import { tensorBytes } from '@mambalab/kernels';
import type { UploadDevice } from '../../packages/models/src/weights/upload.ts';

/** A device without a GPU, whose tensors are bytes of JavaScript. */
export interface HostDevice extends UploadDevice {
  /** By label, of tensors that are not disposed. */
  readonly contents: Map<string, Uint8Array>;
}

export function hostDevice(): HostDevice {
  const contents = new Map<string, Uint8Array>();
  return {
    contents,
    createTensor: (label, dtype, shape, rowStride = shape[shape.length - 1] ?? 1): Tensor => {
      const byteLength = tensorBytes(dtype, shape, rowStride);
      contents.set(label, new Uint8Array(byteLength));
      const dispose = (): void => void contents.delete(label);
      return {
        label,
        buffer: {} as GPUBuffer,
        byteOffset: 0,
        byteLength,
        dtype,
        shape,
        rowStride,
        dispose,
        [Symbol.dispose]: dispose,
      };
    },
    guard: async (_what, body) => await body(),
    idle: () => Promise.resolve(),
    write: ({ label }, data: HostTensor['data'], wordOffset = 0) =>
      contents.get(label)?.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), wordOffset * 4),
  };
}
