import { ShaderError } from './errors.ts';
import type { RecordedDispatch } from './recording.ts';
import type { Shader } from './shader.ts';
import { specialize } from './shader.ts';

const SHADER_STAGE_COMPUTE = 0x4;

interface Layouts {
  readonly layout: GPUBindGroupLayout;
  readonly pipelineLayout: GPUPipelineLayout;
}

/**
 * Compiled pipelines of a device. All executors share them: a second model, or one that is loaded again, compiles only
 * what is new.
 */
export class PipelineCache {
  readonly #gpu: GPUDevice;
  readonly #unrolled: boolean;
  /** Throws if the device is lost. */
  readonly #check: () => void;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #layouts = new Map<string, Layouts>();

  /** @param unrolled whether loops are written out that a shader wants so */
  constructor(gpu: GPUDevice, check: () => void, unrolled: boolean) {
    this.#gpu = gpu;
    this.#unrolled = unrolled;
    this.#check = check;
  }

  /** Distinct pipelines compiled so far. */
  get size(): number {
    return this.#pipelines.size;
  }

  /** Layouts of a shader's bindings; the same for all its variants. */
  layoutOf(shader: Shader): Layouts {
    const cached = this.#layouts.get(shader.name);
    if (cached !== undefined) return cached;
    const entries: GPUBindGroupLayoutEntry[] = shader.bindings.map((binding) => ({
      binding: binding.index,
      visibility: SHADER_STAGE_COMPUTE,
      buffer: { type: binding.access === 'read' ? 'read-only-storage' : 'storage' },
    }));
    if (shader.paramsBinding !== undefined) {
      entries.push({ binding: shader.paramsBinding, visibility: SHADER_STAGE_COMPUTE, buffer: { type: 'uniform' } });
    }
    const layout = this.#gpu.createBindGroupLayout({ label: shader.name, entries });
    const layouts = {
      layout,
      pipelineLayout: this.#gpu.createPipelineLayout({ label: shader.name, bindGroupLayouts: [layout] }),
    };
    this.#layouts.set(shader.name, layouts);
    return layouts;
  }

  /** The pipeline of a dispatch. @throws ShaderError if its shader does not compile on this device */
  pipelineOf({ shader, variant, overrides, constants }: RecordedDispatch): Promise<GPUComputePipeline> {
    const key = JSON.stringify([shader.name, variant, sorted(overrides), sorted(constants)]);
    const cached = this.#pipelines.get(key);
    if (cached !== undefined) return cached;
    const pipeline = this.#create(shader, variant, overrides, constants);
    this.#pipelines.set(key, pipeline);
    // A failed compilation must not stay in the cache; the error itself reaches the caller through `pipeline`.
    pipeline.catch(() => this.#pipelines.delete(key));
    return pipeline;
  }

  /** Forgets everything. */
  clear(): void {
    this.#pipelines.clear();
    this.#layouts.clear();
  }

  async #create(
    shader: Shader,
    variant: number,
    overrides: Readonly<Record<string, number>>,
    constants: Readonly<Record<string, number>>,
  ): Promise<GPUComputePipeline> {
    const code = specialize(shader, variant, constants, this.#unrolled);
    // A wrong text is reported below, with its messages; nobody else may find the error in addition.
    this.#gpu.pushErrorScope('validation');
    const module = this.#gpu.createShaderModule({ label: shader.name, code });
    this.#gpu.popErrorScope().catch(() => undefined);
    try {
      return await this.#gpu.createComputePipelineAsync({
        label: shader.name,
        layout: this.layoutOf(shader).pipelineLayout,
        compute: { module, entryPoint: 'main', constants: overrides },
      });
    } catch (cause) {
      this.#check();
      const { messages } = await module.getCompilationInfo();
      const details = messages.map((message) => `${message.lineNum}:${message.linePos} ${message.message}`).join('; ');
      throw new ShaderError(
        `The shader ${shader.name} (${JSON.stringify(shader.variants[variant]?.choices)}) does not compile: ${details || String(cause)}`,
        'This is a defect of the library or the driver; please report it with the device name.',
        { cause },
      );
    }
  }
}

const sorted = (record: Readonly<Record<string, number>>): [string, number][] =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
