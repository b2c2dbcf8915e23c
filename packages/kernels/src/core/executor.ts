import type { Device } from './device.ts';
import { planScratch, storageRefBytes } from './liveness.ts';
import { Plan } from './plan.ts';
import type { PlanOwner } from './plan.ts';
import type { Recording } from './recording.ts';

export interface ExecutorOptions {
  /** Fill scratch and outputs with NaN bits when they are made, so that a value which no kernel wrote shows. */
  readonly poison?: boolean;
}

/**
 * Turns recordings into things a GPU can run. It owns the pool of scratch buffers that its plans share (runs follow each
 * other on one queue); compiled pipelines are the device's.
 */
export class Executor implements PlanOwner {
  readonly device: Device;
  readonly #poison: boolean;
  readonly #pool: GPUBuffer[] = [];
  readonly #plans = new Set<Plan>();
  #placeholder: GPUBuffer | undefined;

  constructor(device: Device, options: ExecutorOptions = {}) {
    this.device = device;
    this.#poison = options.poison ?? false;
  }

  /** Bytes of the scratch pool. */
  get scratchBytes(): number {
    return this.#pool.reduce((sum, buffer) => sum + buffer.size, 0);
  }

  /**
   * Compiles the pipelines of a recording, in parallel, and makes its parameter, scratch and output buffers.
   *
   * @throws ShaderError if a shader does not compile on this device; OutOfMemoryError if a buffer cannot be made.
   */
  async compile(recording: Recording): Promise<Plan> {
    const pipelines = await Promise.all(
      recording.dispatches.map((dispatch) => this.device.pipelines.pipelineOf(dispatch)),
    );
    return this.device.guard('Preparing a recording', () => {
      const plan = new Plan(this, recording, pipelines, this.#storages(recording));
      this.#plans.add(plan);
      return plan;
    });
  }

  /** Forgets a plan and frees what only it used. */
  release(plan: Plan): void {
    this.#plans.delete(plan);
  }

  /** Frees the buffers of every plan. Tensors that callers bound stay theirs. */
  dispose(): void {
    for (const plan of this.#plans) plan.dispose();
    for (const buffer of this.#pool) this.device.destroyBuffer(buffer);
    this.#pool.length = 0;
    if (this.#placeholder !== undefined) this.device.destroyBuffer(this.#placeholder);
    this.#placeholder = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #storages(recording: Recording): Map<number, GPUBuffer> {
    const plan = planScratch(recording);
    // Largest slots first take the largest pooled buffers.
    const order = plan.slots.map((bytes, slot) => ({ bytes, slot })).sort((a, b) => b.bytes - a.bytes);
    const free = [...this.#pool].sort((a, b) => a.size - b.size);
    const buffers = new Map<number, GPUBuffer>();
    for (const { bytes, slot } of order) {
      const fit = free.findIndex((buffer) => buffer.size >= bytes);
      const buffer = fit >= 0 ? free.splice(fit, 1)[0] : undefined;
      const chosen = buffer ?? this.#create(`scratch/${this.#pool.length}`, bytes);
      if (buffer === undefined) this.#pool.push(chosen);
      buffers.set(slot, chosen);
    }
    const storages = new Map<number, GPUBuffer>();
    for (const storage of recording.storages) {
      if (storage.role === 'output') {
        storages.set(storage.id, this.#create(storage.name, storageRefBytes(storage)));
      } else if (storage.role === 'placeholder') {
        this.#placeholder ??= this.device.createBuffer('placeholder', 16);
        storages.set(storage.id, this.#placeholder);
      } else if (storage.role === 'scratch') {
        const buffer = buffers.get(plan.slotOf.get(storage.id) ?? -1);
        if (buffer !== undefined) storages.set(storage.id, buffer);
      }
    }
    return storages;
  }

  #create(label: string, bytes: number): GPUBuffer {
    const buffer = this.device.createBuffer(label, bytes);
    if (this.#poison) this.device.gpu.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0xffffffff));
    return buffer;
  }
}
