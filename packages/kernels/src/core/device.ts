import type { Capabilities } from './capabilities.ts';
import { offeredLimits, probeCapabilities, USED_FEATURES } from './capabilities.ts';
import type { Dtype } from './dtype.ts';
import { valuesPerWord } from './dtype.ts';
import { DeviceLostError, OutOfMemoryError, ShaderError, ShapeError, WebGPUUnavailableError } from './errors.ts';
import { PipelineCache } from './pipelines.ts';
import type { HostTensor, Tensor } from './tensor.ts';
import { tensorBytes } from './tensor.ts';

export interface RequestDeviceOptions {
  /** Entry point of WebGPU; the global `navigator.gpu` when absent. */
  readonly gpu?: GPU;
  readonly powerPreference?: GPUPowerPreference;
  /** Leave out optional features, to see what a lesser device would do. */
  readonly withoutFeatures?: readonly string[];
}

/** What `lost` tells. */
export interface DeviceLoss {
  readonly reason: string;
  readonly message: string;
}

/**
 * A GPU device with its capabilities, typed errors and the buffers made through it.
 * Nothing is shared between two devices; `dispose` frees every buffer.
 */
export class Device {
  readonly gpu: GPUDevice;
  readonly capabilities: Capabilities;
  /** Compiled pipelines, which everything that runs on this device shares. */
  readonly pipelines: PipelineCache;
  /** Resolves when the device is lost, also by `dispose`. Never rejects. */
  readonly lost: Promise<DeviceLoss>;
  #loss: DeviceLoss | undefined;
  #end: (loss: DeviceLoss) => void = () => undefined;
  #failure: Error | undefined;
  readonly #buffers = new Set<GPUBuffer>();
  #allocatedBytes = 0;
  /** In Node, Dawn's objects do not keep their instance alive, and a collected instance ends the process. */
  readonly instance: GPU | undefined;
  readonly #owned: boolean;

  constructor(gpu: GPUDevice, info: GPUAdapterInfo, owner?: GPU) {
    this.gpu = gpu;
    this.instance = owner;
    this.#owned = owner !== undefined;
    this.capabilities = probeCapabilities(info, gpu);
    this.pipelines = new PipelineCache(gpu, () => this.check(), !this.capabilities.software);
    const disposed = new Promise<DeviceLoss>((resolve) => {
      this.#end = resolve;
    });
    this.lost = Promise.race([disposed, gpu.lost]).then(({ reason, message }) => {
      this.#loss ??= { reason, message };
      return this.#loss;
    });
    gpu.addEventListener('uncapturederror', (event) => {
      this.#failure ??= describeError(event.error, 'A GPU operation failed.');
    });
  }

  /** Bytes of all buffers that were made through this device and not freed. */
  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  /** Throws if the device is lost or an earlier operation failed without anybody waiting for it. */
  check(): void {
    if (this.#loss !== undefined) {
      throw new DeviceLostError(
        `The GPU device is lost (${this.#loss.reason || 'unknown'}): ${this.#loss.message}`,
        'Request a device again and load the model anew.',
      );
    }
    if (this.#failure !== undefined) {
      const failure = this.#failure;
      this.#failure = undefined;
      throw failure;
    }
  }

  /** Runs `body`, and turns the first validation, memory or internal error that it causes into a typed one. */
  async guard<T>(what: string, body: () => T | Promise<T>): Promise<T> {
    this.check();
    const filters: readonly GPUErrorFilter[] = ['internal', 'out-of-memory', 'validation'];
    for (const filter of filters) this.gpu.pushErrorScope(filter);
    let result: T;
    let errors: readonly (GPUError | null)[] = [];
    try {
      const made = body();
      // Scopes are a stack that all calls share. Those of a body that is done at once are popped at once, before another
      // call pushes its own.
      result = made instanceof Promise ? await made : made;
    } finally {
      // The last one pushed is the first one popped.
      errors = (await Promise.all(filters.map(() => this.gpu.popErrorScope()))).toReversed();
    }
    // What the GPU had no memory for is not valid either, to whatever uses it: the cause comes first.
    const [internal, memory, validation] = errors;
    const error = memory ?? internal ?? validation;
    if (error !== undefined && error !== null) throw describeError(error, what);
    this.check();
    return result;
  }

  /**
   * A storage buffer, zeroed by WebGPU. A failing allocation shows as an {@link OutOfMemoryError} from the enclosing
   * {@link guard}, or from the next {@link check}.
   *
   * @throws OutOfMemoryError at once if it is beyond the device's limits.
   */
  createBuffer(label: string, byteLength: number, usage: GPUBufferUsageFlags = STORAGE_USAGE): GPUBuffer {
    this.check();
    const { maxBufferSize, maxStorageBufferBindingSize } = this.capabilities.limits;
    const bound = usage & BUFFER_USAGE.STORAGE ? Math.min(maxBufferSize, maxStorageBufferBindingSize) : maxBufferSize;
    if (byteLength > bound) {
      throw new OutOfMemoryError(
        `'${label}' needs a buffer of ${byteLength} bytes; this device allows ${bound}.`,
        'Use a smaller model, a smaller dtype, or a shorter context.',
      );
    }
    const buffer = this.gpu.createBuffer({ label, size: Math.ceil(byteLength / 4) * 4, usage });
    this.#buffers.add(buffer);
    this.#allocatedBytes += buffer.size;
    return buffer;
  }

  /** Frees a buffer that was made by {@link createBuffer}. */
  destroyBuffer(buffer: GPUBuffer): void {
    if (!this.#buffers.delete(buffer)) return;
    this.#allocatedBytes -= buffer.size;
    buffer.destroy();
  }

  /**
   * A tensor with a buffer of its own, zeroed.
   *
   * @param shape sizes, the last one the width of a row
   * @param rowStride distance between rows in values; the width when absent
   */
  createTensor(label: string, dtype: Dtype, shape: readonly number[], rowStride?: number): Tensor {
    const width = shape[shape.length - 1] ?? 0;
    const perWord = dtype === 'q8' || dtype === 'q4' ? 1 : valuesPerWord(dtype);
    const stride = rowStride ?? Math.ceil(width / perWord) * perWord;
    if (shape.some((size) => !Number.isInteger(size) || size < 1) || stride < width) {
      throw new ShapeError(
        `'${label}' has the shape (${shape.join(', ')}) with rows ${stride} apart.`,
        'Sizes must be positive integers and rows must not overlap.',
      );
    }
    const byteLength = tensorBytes(dtype, shape, stride);
    const buffer = this.createBuffer(label, byteLength);
    const dispose = (): void => this.destroyBuffer(buffer);
    return {
      label,
      buffer,
      byteOffset: 0,
      byteLength,
      dtype,
      shape,
      rowStride: stride,
      dispose,
      [Symbol.dispose]: dispose,
    };
  }

  /** Copies host values to a new tensor. */
  upload(label: string, host: HostTensor): Tensor {
    const tensor = this.createTensor(label, host.dtype, host.shape, host.rowStride);
    if (host.data.byteLength > tensor.byteLength) {
      tensor.dispose();
      throw new ShapeError(
        `'${label}' of shape (${host.shape.join(', ')}) takes ${tensor.byteLength} bytes; found ${host.data.byteLength}.`,
        'Give data and shape that agree.',
      );
    }
    this.gpu.queue.writeBuffer(tensor.buffer, 0, host.data as Float32Array<ArrayBuffer>);
    return tensor;
  }

  /**
   * Writes words into a tensor, from `wordOffset` on. Bytes that were submitted before are not affected.
   *
   * @throws ShapeError if they do not fit
   */
  write(tensor: Tensor, data: Float32Array | Uint32Array | Int32Array, wordOffset = 0): void {
    this.check();
    if (wordOffset * 4 + data.byteLength > tensor.byteLength) {
      throw new ShapeError(
        `'${tensor.label}' has ${tensor.byteLength} bytes; found ${data.byteLength} to write from byte ${wordOffset * 4}.`,
        'Write no more than the tensor holds.',
      );
    }
    const start = tensor.byteOffset + wordOffset * 4;
    this.gpu.queue.writeBuffer(tensor.buffer, start, data as Float32Array<ArrayBuffer>);
  }

  /** Sets tensors to zero bytes, after everything that was submitted before. */
  clear(tensors: Iterable<Tensor>): void {
    this.check();
    const encoder = this.gpu.createCommandEncoder({ label: 'device/clear' });
    for (const { buffer, byteOffset, byteLength } of tensors) encoder.clearBuffer(buffer, byteOffset, byteLength);
    this.gpu.queue.submit([encoder.finish()]);
  }

  /** Copies the first bytes of one tensor over another, after everything that was submitted before. */
  copy(source: Tensor, target: Tensor): void {
    this.check();
    const encoder = this.gpu.createCommandEncoder({ label: 'device/copy' });
    const bytes = Math.min(source.byteLength, target.byteLength);
    encoder.copyBufferToBuffer(source.buffer, source.byteOffset, target.buffer, target.byteOffset, bytes);
    this.gpu.queue.submit([encoder.finish()]);
  }

  /** Reads bytes of a buffer back, after everything that was submitted before. */
  async readBuffer(
    buffer: GPUBuffer,
    byteOffset = 0,
    byteLength: number = buffer.size - byteOffset,
  ): Promise<ArrayBuffer> {
    this.check();
    const staging = this.gpu.createBuffer({
      label: 'device/readback',
      size: Math.ceil(byteLength / 4) * 4,
      usage: BUFFER_USAGE.MAP_READ | BUFFER_USAGE.COPY_DST,
    });
    try {
      const encoder = this.gpu.createCommandEncoder({ label: 'device/readback' });
      encoder.copyBufferToBuffer(buffer, byteOffset, staging, 0, staging.size);
      this.gpu.queue.submit([encoder.finish()]);
      await this.mapForReading(staging);
      return staging.getMappedRange().slice(0, byteLength);
    } finally {
      staging.destroy();
    }
  }

  /** Maps a staging buffer; a lost device shows as a {@link DeviceLostError} instead of an AbortError. */
  async mapForReading(staging: GPUBuffer): Promise<void> {
    try {
      await staging.mapAsync(MAP_MODE_READ);
    } catch (cause) {
      // The loss may be reported a turn later than the failed mapping.
      await Promise.race([this.lost, new Promise((resolve) => setTimeout(resolve, 50))]);
      this.check();
      throw new ShaderError('A GPU result could not be read back.', 'See the cause.', { cause });
    }
    this.check();
  }

  /** Reads a tensor back as the GPU stores it. */
  async read(tensor: Tensor): Promise<HostTensor> {
    const bytes = await this.readBuffer(tensor.buffer, tensor.byteOffset, tensor.byteLength);
    const { dtype, shape, rowStride } = tensor;
    const data =
      dtype === 'f32' ? new Float32Array(bytes) : dtype === 'i32' ? new Int32Array(bytes) : new Uint32Array(bytes);
    return { data, shape, dtype, rowStride };
  }

  /** Waits until everything that was submitted is done. */
  async idle(): Promise<void> {
    await this.gpu.queue.onSubmittedWorkDone();
    this.check();
  }

  /** Frees every buffer; destroys the GPU device if this object requested it. */
  dispose(): void {
    // From now on every call is refused, also where the GPU device lives on or tells of its end only a turn later.
    this.#loss ??= { reason: 'destroyed', message: 'dispose() was called.' };
    this.#end(this.#loss);
    for (const buffer of this.#buffers) buffer.destroy();
    this.#buffers.clear();
    this.#allocatedBytes = 0;
    this.pipelines.clear();
    if (this.#owned) this.gpu.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

// The constants of WebGPU as numbers: in Node the globals that name them need not exist.
export const BUFFER_USAGE = {
  MAP_READ: 0x0001,
  COPY_SRC: 0x0004,
  COPY_DST: 0x0008,
  UNIFORM: 0x0040,
  STORAGE: 0x0080,
  QUERY_RESOLVE: 0x0200,
} as const;
const MAP_MODE_READ = 0x0001;
export const STORAGE_USAGE: number = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;

function describeError(error: GPUError, what: string): Error {
  if (error.constructor.name === 'GPUOutOfMemoryError') {
    return new OutOfMemoryError(`${what}: ${error.message}`, 'Use a smaller model, dtype, batch or context.');
  }
  return new ShaderError(
    `${what}: ${error.message}`,
    'This is a defect of the library or the driver; please report it.',
  );
}

/**
 * Requests a device with every useful feature and the highest limits that the adapter offers.
 *
 * @throws WebGPUUnavailableError if there is no WebGPU, or no adapter.
 */
export async function requestDevice(options: RequestDeviceOptions = {}): Promise<Device> {
  const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
  if (gpu === undefined) {
    throw new WebGPUUnavailableError(
      'This environment has no WebGPU.',
      'Use a browser with WebGPU (Chrome or Edge 113, Safari 26, Firefox 141, each or later); in Node import from @mambalab/kernels/node with the package webgpu installed.',
    );
  }
  const adapter = await gpu.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' });
  if (adapter === null) {
    throw new WebGPUUnavailableError(
      'WebGPU is here but offers no adapter.',
      'Check that a GPU driver is installed and hardware acceleration is on; in Node the Vulkan loader and a driver must be found.',
    );
  }
  const without = new Set(options.withoutFeatures ?? []);
  const features = USED_FEATURES.filter((feature) => adapter.features.has(feature) && !without.has(feature));
  const device = await adapter.requestDevice({
    label: 'mambalab',
    requiredFeatures: features as GPUFeatureName[],
    requiredLimits: offeredLimits(adapter.limits),
  });
  return new Device(device, adapter.info, gpu);
}

/** Wraps a GPUDevice that the app made; `dispose` then leaves it alive. */
export function wrapDevice(device: GPUDevice): Device {
  return new Device(device, device.adapterInfo);
}
