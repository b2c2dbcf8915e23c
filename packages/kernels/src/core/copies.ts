import type { Device } from './device.ts';
import { BUFFER_USAGE } from './device.ts';
import type { Tensor } from './tensor.ts';

/** Bytes of one tensor that go to another; offsets and length are multiples of 4. */
export interface CopyPart {
  readonly source: Tensor;
  readonly sourceOffset: number;
  readonly target: Tensor;
  readonly targetOffset: number;
  readonly byteLength: number;
}

/** Copies parts of tensors in one submission, after everything that was submitted before. */
export function copyParts(device: Device, parts: readonly CopyPart[]): void {
  device.check();
  if (parts.length === 0) return;
  const encoder = device.gpu.createCommandEncoder({ label: 'device/copy' });
  for (const { source, sourceOffset, target, targetOffset, byteLength } of parts) {
    encoder.copyBufferToBuffer(
      source.buffer,
      source.byteOffset + sourceOffset,
      target.buffer,
      target.byteOffset + targetOffset,
      byteLength,
    );
  }
  device.gpu.queue.submit([encoder.finish()]);
}

/**
 * Bytes on the GPU that no kernel binds, only copies reach: a place to keep parts of tensors. It may be larger than what
 * the device binds.
 *
 * @throws OutOfMemoryError as {@link Device.createBuffer} does
 */
export function createStore(device: Device, label: string, byteLength: number): Tensor {
  const buffer = device.createBuffer(label, byteLength, BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST);
  const dispose = (): void => device.destroyBuffer(buffer);
  const words = byteLength / 4;
  return {
    label,
    buffer,
    byteOffset: 0,
    byteLength,
    dtype: 'u32',
    shape: [words],
    rowStride: words,
    dispose,
    [Symbol.dispose]: dispose,
  };
}
