import type { HostTensor, Tensor } from '@mambalab/kernels';
import { tensorBytes } from '@mambalab/kernels';
import type { UploadDevice } from '../../packages/models/src/weights/upload.ts';

/** A device without a GPU, whose tensors are bytes of JavaScript. */
export interface HostDevice extends UploadDevice {
  /** By label, of tensors that are not disposed. */
  readonly contents: Map<string, Uint8Array>;
}

function hostTensor(label: string, dtype: Tensor['dtype'], shape: readonly number[], rowStride?: number): Tensor {
  const stride = rowStride ?? shape[shape.length - 1] ?? 1;
  return {
    label,
    buffer: {} as GPUBuffer,
    byteOffset: 0,
    byteLength: tensorBytes(dtype, shape, stride),
    dtype,
    shape,
    rowStride: stride,
    dispose: () => undefined,
    [Symbol.dispose]: () => undefined,
  };
}

export function hostDevice(): HostDevice {
  const contents = new Map<string, Uint8Array>();
  return {
    contents,
    createTensor: (label, ...shape): Tensor => {
      const tensor = hostTensor(label, ...shape);
      contents.set(label, new Uint8Array(tensor.byteLength));
      return { ...tensor, dispose: () => void contents.delete(label) };
    },
    guard: async (_what, body) => await body(),
    idle: () => Promise.resolve(),
    write: ({ label }, data: HostTensor['data'], wordOffset = 0) =>
      contents.get(label)?.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), wordOffset * 4),
  };
}

/** A device that takes every byte and keeps none. */
export function nowhereDevice(): UploadDevice & { written: number } {
  return {
    written: 0,
    createTensor: hostTensor,
    guard: async (_what, body) => await body(),
    idle: () => Promise.resolve(),
    write(_tensor, data: HostTensor['data']) {
      this.written += data.byteLength;
    },
  };
}

/** Watches JavaScript's own memory, objects and array buffers, until it is disposed. */
export function watchMemory(): Disposable & { readonly watch: () => void; readonly more: number } {
  const used = (): number => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  let peak = before;
  const watch = (): void => {
    peak = Math.max(peak, used());
  };
  const timer = setInterval(watch, 5);
  return {
    /** Looks now; it does by itself every 5 ms. */
    watch,
    /** The most bytes beyond those at the beginning. */
    get more() {
      return peak - before;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
