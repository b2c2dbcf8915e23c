import type { Device } from './device.ts';
import { ShaderError } from './errors.ts';
import { planScratch, storageRefBytes } from './liveness.ts';
import { Plan } from './plan.ts';
import type { PlanOwner } from './plan.ts';
import type { RecordedDispatch, Recording } from './recording.ts';
import type { Shader } from './shader.ts';
import { specialize } from './shader.ts';

export interface ExecutorOptions {
  /** Fill scratch and outputs with NaN bits when they are made, so that a value which no kernel wrote shows. */
  readonly poison?: boolean;
}

interface ShaderObjects {
  readonly layout: GPUBindGroupLayout;
  readonly pipelineLayout: GPUPipelineLayout;
}

/**
 * Turns recordings into things a GPU can run. It owns compiled pipelines (shared by all plans) and the pool of
 * scratch buffers (shared too: runs follow each other on one queue).
 */
export class Executor implements PlanOwner {
  readonly device: Device;
  readonly #poison: boolean;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #shaders = new Map<string, ShaderObjects>();
  readonly #pool: GPUBuffer[] = [];
  readonly #plans = new Set<Plan>();
  #placeholder: GPUBuffer | undefined;

  constructor(device: Device, options: ExecutorOptions = {}) {
    this.device = device;
    this.#poison = options.poison ?? false;
  }

  /** Distinct pipelines compiled so far. */
  get pipelineCount(): number {
    return this.#pipelines.size;
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
    const pipelines = await Promise.all(recording.dispatches.map((dispatch) => this.#pipeline(dispatch)));
    return this.device.guard('Preparing a recording', () => {
      const plan = new Plan(this, recording, pipelines, this.#storages(recording));
      this.#plans.add(plan);
      return plan;
    });
  }

  /** Layouts of a shader's bindings; the same for all its variants. */
  layoutOf(shader: Shader): ShaderObjects {
    const cached = this.#shaders.get(shader.name);
    if (cached !== undefined) return cached;
    const entries: GPUBindGroupLayoutEntry[] = shader.bindings.map((binding) => ({
      binding: binding.index,
      visibility: SHADER_STAGE_COMPUTE,
      buffer: { type: binding.access === 'read' ? 'read-only-storage' : 'storage' },
    }));
    if (shader.paramsBinding !== undefined) {
      entries.push({ binding: shader.paramsBinding, visibility: SHADER_STAGE_COMPUTE, buffer: { type: 'uniform' } });
    }
    const gpu = this.device.gpu;
    const layout = gpu.createBindGroupLayout({ label: shader.name, entries });
    const objects = {
      layout,
      pipelineLayout: gpu.createPipelineLayout({ label: shader.name, bindGroupLayouts: [layout] }),
    };
    this.#shaders.set(shader.name, objects);
    return objects;
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
    this.#pipelines.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #pipeline(dispatch: RecordedDispatch): Promise<GPUComputePipeline> {
    const { shader, variant, overrides, constants } = dispatch;
    const key = JSON.stringify([shader.name, variant, sorted(overrides), sorted(constants)]);
    const cached = this.#pipelines.get(key);
    if (cached !== undefined) return cached;
    const pipeline = this.#createPipeline(shader, variant, overrides, constants);
    this.#pipelines.set(key, pipeline);
    // A failed compilation must not stay in the cache; the error itself reaches the caller through `pipeline`.
    pipeline.catch(() => this.#pipelines.delete(key));
    return pipeline;
  }

  async #createPipeline(
    shader: Shader,
    variant: number,
    overrides: Readonly<Record<string, number>>,
    constants: Readonly<Record<string, number>>,
  ): Promise<GPUComputePipeline> {
    const gpu = this.device.gpu;
    const code = specialize(shader, variant, constants);
    // A wrong text is reported below, with its messages; nobody else may find the error in addition.
    gpu.pushErrorScope('validation');
    const module = gpu.createShaderModule({ label: shader.name, code });
    gpu.popErrorScope().catch(() => undefined);
    try {
      return await gpu.createComputePipelineAsync({
        label: shader.name,
        layout: this.layoutOf(shader).pipelineLayout,
        compute: { module, entryPoint: 'main', constants: overrides },
      });
    } catch (cause) {
      this.device.check();
      const { messages } = await module.getCompilationInfo();
      const details = messages.map((message) => `${message.lineNum}:${message.linePos} ${message.message}`).join('; ');
      throw new ShaderError(
        `The shader ${shader.name} (${JSON.stringify(shader.variants[variant]?.choices)}) does not compile: ${details || String(cause)}`,
        'This is a defect of the library or the driver; please report it with the device name.',
        { cause },
      );
    }
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

const SHADER_STAGE_COMPUTE = 0x4;

const sorted = (record: Readonly<Record<string, number>>): [string, number][] =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
