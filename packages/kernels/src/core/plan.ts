import type { Device } from './device.ts';
import { BUFFER_USAGE } from './device.ts';
import { storagePlanes } from './dtype.ts';
import { ArgumentError, ShapeError } from './errors.ts';
import { storageRefBytes } from './liveness.ts';
import type { Recording, StorageRef, TensorRef } from './recording.ts';
import type { SizeValues } from './size.ts';
import { evaluateSize, maximumSize } from './size.ts';
import type { Tensor } from './tensor.ts';

/** Uniform bindings must begin at multiples of this many bytes on every device. */
const UNIFORM_ALIGNMENT = 256;

/** What a plan needs of the executor that made it. */
export interface PlanOwner {
  readonly device: Device;
  /** Forgets a plan that is disposed. */
  release(plan: Plan): void;
}

/** A recording with its pipelines and buffers. Bind its external tensors to get something that runs. */
export class Plan {
  readonly owner: PlanOwner;
  readonly recording: Recording;
  readonly pipelines: readonly GPUComputePipeline[];
  readonly #storages: ReadonlyMap<number, GPUBuffer>;
  readonly #params: GPUBuffer;
  readonly #mirror: ArrayBuffer;
  readonly #slots: readonly { readonly offset: number; readonly size: number }[];
  readonly #dynamic: boolean;
  /** Workgroup counts of the current sizes, three for each dispatch. */
  readonly grid: Uint32Array;
  #written = '';

  constructor(
    owner: PlanOwner,
    recording: Recording,
    pipelines: readonly GPUComputePipeline[],
    storages: ReadonlyMap<number, GPUBuffer>,
  ) {
    this.owner = owner;
    this.recording = recording;
    this.pipelines = pipelines;
    this.#storages = storages;
    let offset = 0;
    this.#slots = recording.dispatches.map(({ shader }) => {
      const slot = { offset, size: Math.max(16, Math.ceil(shader.paramsSize / 16) * 16) };
      if (shader.paramsBinding !== undefined) offset += Math.ceil(slot.size / UNIFORM_ALIGNMENT) * UNIFORM_ALIGNMENT;
      return slot;
    });
    this.#mirror = new ArrayBuffer(Math.max(offset, UNIFORM_ALIGNMENT));
    this.#params = owner.device.createBuffer('plan/params', this.#mirror.byteLength, UNIFORM_USAGE);
    this.grid = new Uint32Array(recording.dispatches.length * 3);
    this.#dynamic = recording.dispatches.some(
      ({ params, workgroups }) =>
        workgroups.some((count) => typeof count !== 'number') ||
        Object.values(params).some((value) => typeof value !== 'number'),
    );
    if (!this.#dynamic) this.#write({});
  }

  /**
   * Sets the named sizes of the next runs: parameters go to the GPU in one write, and only when a size changed.
   * Runs that were submitted before keep the sizes that they had.
   */
  setSizes(values: SizeValues): void {
    if (!this.#dynamic) return;
    const key = JSON.stringify(values);
    if (key === this.#written) return;
    // Sizes that are refused may leave the grid half changed: the next ones are written whatever they are.
    this.#written = '';
    this.#write(values);
    this.#written = key;
  }

  /** The GPU tensor of an output. It belongs to the plan and changes with every run. */
  output(name: string): Tensor {
    const ref = this.recording.outputs.get(name);
    const buffer = ref === undefined ? undefined : this.#storages.get(ref.storage.id);
    if (ref === undefined || buffer === undefined) {
      throw new ArgumentError(
        `The recording has no output '${name}'.`,
        `It has: ${[...this.recording.outputs.keys()].join(', ')}.`,
      );
    }
    const shape = ref.shape.map(maximumSize);
    const dispose = (): void => undefined;
    return {
      label: name,
      buffer,
      byteOffset: 0,
      byteLength: buffer.size,
      dtype: ref.dtype,
      shape,
      rowStride: ref.rowStride,
      dispose,
      [Symbol.dispose]: dispose,
    };
  }

  /**
   * Binds GPU tensors to the external tensors of the recording. Bind groups are made here, once.
   *
   * @throws ArgumentError if one is missing; ShapeError if one has another dtype or row stride, or is too small.
   */
  bind(tensors: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>): BoundPlan {
    const given =
      tensors instanceof Map ? tensors : new Map(Object.entries(tensors as Readonly<Record<string, Tensor>>));
    const bound = new Map<number, Tensor>();
    for (const [name, ref] of this.recording.externals) {
      const tensor = given.get(name);
      if (tensor === undefined)
        throw new ArgumentError(`No tensor is bound for '${name}'.`, 'Bind every external tensor of the recording.');
      const needed = storageRefBytes(ref.storage);
      // One row has no distance to the next.
      const sameRows = maximumSize(ref.storage.rows) === 1 || tensor.rowStride === ref.rowStride;
      if (tensor.dtype !== ref.dtype || !sameRows || tensor.byteLength < needed) {
        throw new ShapeError(
          `'${name}' must be ${ref.dtype} with rows ${ref.rowStride} apart and at least ${needed} bytes; found ${tensor.dtype}, ${tensor.rowStride}, ${tensor.byteLength} bytes.`,
          'Bind the tensor that the recording was made for.',
        );
      }
      bound.set(ref.storage.id, tensor);
    }
    const { gpu, pipelines } = this.owner.device;
    const groups = this.recording.dispatches.map((dispatch, index) => {
      const { shader } = dispatch;
      const entries: GPUBindGroupEntry[] = shader.bindings.map((binding, at) => ({
        binding: binding.index,
        resource: this.#resource(dispatch.bindings[at], bound),
      }));
      const slot = this.#slots[index];
      if (shader.paramsBinding !== undefined && slot !== undefined) {
        entries.push({
          binding: shader.paramsBinding,
          resource: { buffer: this.#params, offset: slot.offset, size: slot.size },
        });
      }
      return gpu.createBindGroup({ label: dispatch.label, layout: pipelines.layoutOf(shader).layout, entries });
    });
    return new BoundPlan(this, groups);
  }

  /** Frees the parameter and output buffers. */
  dispose(): void {
    const device = this.owner.device;
    device.destroyBuffer(this.#params);
    for (const storage of this.recording.storages) {
      const buffer = this.#storages.get(storage.id);
      if (storage.role === 'output' && buffer !== undefined) device.destroyBuffer(buffer);
    }
    this.owner.release(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #resource(ref: TensorRef | undefined, bound: ReadonlyMap<number, Tensor>): GPUBufferBinding {
    if (ref === undefined) throw new ArgumentError('A dispatch lacks a binding.', 'Record it again.');
    const tensor = bound.get(ref.storage.id);
    const buffer = tensor?.buffer ?? this.#storages.get(ref.storage.id);
    if (buffer === undefined) throw new ArgumentError(`'${ref.storage.name}' has no buffer.`, 'Record the plan again.');
    const base = tensor?.byteOffset ?? 0;
    if (ref.plane !== undefined) {
      const plane = planeOf(ref.storage, ref.plane);
      return { buffer, offset: base + plane.byteOffset, size: plane.byteLength };
    }
    return { buffer, offset: base, size: tensor?.byteLength ?? buffer.size };
  }

  #write(values: SizeValues): void {
    const view = new DataView(this.#mirror);
    this.recording.dispatches.forEach((dispatch, index) => {
      const base = this.#slots[index]?.offset ?? 0;
      for (const [name, field] of Object.entries(dispatch.shader.params)) {
        const value = evaluateSize(dispatch.params[name] ?? 0, values);
        if (field.type === 'f32') view.setFloat32(base + field.offset, value, true);
        else if (field.type === 'i32') view.setInt32(base + field.offset, value, true);
        else view.setUint32(base + field.offset, value, true);
      }
      dispatch.workgroups.forEach((count, axis) => {
        this.grid[index * 3 + axis] = evaluateSize(count, values);
      });
    });
    this.owner.device.gpu.queue.writeBuffer(this.#params, 0, this.#mirror);
  }
}

const UNIFORM_USAGE = BUFFER_USAGE.UNIFORM | BUFFER_USAGE.COPY_DST;

function planeOf(storage: StorageRef, name: 'quants' | 'scales'): { byteOffset: number; byteLength: number } {
  const plane = storagePlanes(storage.dtype, maximumSize(storage.rows), storage.rowStride).find((p) => p.name === name);
  if (plane === undefined)
    throw new ShapeError(`'${storage.name}' (${storage.dtype}) has no ${name}.`, 'Bind it whole.');
  return plane;
}

/** A plan whose every binding is decided: encoding it makes no object and computes nothing. */
export class BoundPlan {
  readonly plan: Plan;
  readonly #groups: readonly GPUBindGroup[];

  constructor(plan: Plan, groups: readonly GPUBindGroup[]) {
    this.plan = plan;
    this.#groups = groups;
  }

  /** Encodes every dispatch into an open compute pass, with the sizes set last. */
  encode(pass: GPUComputePassEncoder): void {
    const { pipelines, grid } = this.plan;
    let current: GPUComputePipeline | undefined;
    for (let i = 0; i < pipelines.length; i++) {
      const pipeline = pipelines[i];
      const group = this.#groups[i];
      if (pipeline === undefined || group === undefined) continue;
      if (pipeline !== current) pass.setPipeline(pipeline);
      current = pipeline;
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(grid[i * 3] ?? 1, grid[i * 3 + 1] ?? 1, grid[i * 3 + 2] ?? 1);
    }
  }

  /** Encodes one dispatch into an open compute pass, with the sizes set last; for timing each by itself. */
  encodeOne(pass: GPUComputePassEncoder, index: number): void {
    const { pipelines, grid } = this.plan;
    const pipeline = pipelines[index];
    const group = this.#groups[index];
    if (pipeline === undefined || group === undefined) {
      throw new ArgumentError(`The plan has no dispatch ${index}.`, `It has ${pipelines.length}, counted from 0.`);
    }
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(grid[index * 3] ?? 1, grid[index * 3 + 1] ?? 1, grid[index * 3 + 2] ?? 1);
  }

  /** Sets the sizes, encodes and submits in one go. */
  submit(values: SizeValues = {}): void {
    const { device } = this.plan.owner;
    device.check();
    this.plan.setSizes(values);
    const encoder = device.gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    this.encode(pass);
    pass.end();
    device.gpu.queue.submit([encoder.finish()]);
  }
}
