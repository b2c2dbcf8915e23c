import type { Device } from './device.ts';
import { BUFFER_USAGE } from './device.ts';
import { ArgumentError } from './errors.ts';
import type { BoundPlan } from './plan.ts';
import type { Tensor } from './tensor.ts';

/**
 * Reads a small tensor back after each of many runs without making the GPU wait: each run is submitted together with
 * a copy into one of a few staging buffers, and the next runs can be submitted before the first result arrives.
 */
export class ReadbackRing {
  readonly #device: Device;
  readonly #sources: readonly Tensor[];
  readonly #free: GPUBuffer[];
  readonly #all: readonly GPUBuffer[];

  /**
   * @param source the tensor to read, or several, of 32-bit values
   * @param slots how many results may be on their way at the same time
   */
  constructor(device: Device, source: Tensor | readonly Tensor[], slots: number) {
    this.#device = device;
    this.#sources = 'buffer' in source ? [source] : source;
    const bytes = this.#sources.reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.#all = Array.from({ length: slots }, (_, slot) =>
      device.createBuffer(`ring/${slot}`, bytes, BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST),
    );
    this.#free = [...this.#all];
  }

  /** How many further results may be asked for now. */
  get free(): number {
    return this.#free.length;
  }

  /**
   * Submits one run and resolves with the words of the tensor after it, of several one after another. Results arrive in
   * the order of submission.
   *
   * @throws ArgumentError if no slot is free; rejects with DeviceLostError if the device goes away
   */
  async submit(plan: BoundPlan): Promise<Uint32Array> {
    const device = this.#device;
    device.check();
    const staging = this.#free.shift();
    if (staging === undefined) throw new ArgumentError('Every slot of the ring is in use.', 'Await a result first.');
    const encoder = device.gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    plan.encode(pass);
    pass.end();
    let at = 0;
    for (const { buffer, byteOffset, byteLength } of this.#sources) {
      encoder.copyBufferToBuffer(buffer, byteOffset, staging, at, byteLength);
      at += byteLength;
    }
    device.gpu.queue.submit([encoder.finish()]);
    try {
      await device.mapForReading(staging);
      return new Uint32Array(staging.getMappedRange().slice(0));
    } finally {
      // Unmapping what was never mapped does nothing.
      staging.unmap();
      this.#free.push(staging);
    }
  }

  dispose(): void {
    for (const buffer of this.#all) this.#device.destroyBuffer(buffer);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
