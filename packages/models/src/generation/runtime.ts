import type { Device, Dtype, ForcedChoices, Plan, Tensor } from '@mambalab/kernels';
import { copyParts, createStore, Executor, ropeInverseFrequencies } from '@mambalab/kernels';
import type { BuildOptions, PrefillHead } from '../graph/build.ts';
import { buildDecode, buildPrefill, buildSample } from '../graph/build.ts';
import type { SamplingFeatures } from '../graph/sampling.ts';
import { featuresKey, PLAIN_SAMPLING } from '../graph/sampling.ts';
import type { CacheDtype } from '../graph/names.ts';
import { hasAttention, MAXIMUM_CHUNK, pageRing, pageTable, pageTableName, rotaryTables } from '../graph/names.ts';
import type { ModelSpec, RotaryScaling, RotarySpec } from '../spec/model_spec.ts';
import { blocksOf } from '../spec/model_spec.ts';
import { createHash } from '../weights/content_hash.ts';
import type { PlannedWeight } from '../weights/plan.ts';

/**
 * Prefill plans exist for these largest lengths: each takes the kernels that suit it (matrix-vector forms for a few
 * rows, small tiles, large tiles). A chunk runs in the smallest one that holds it.
 */
const CHUNK_LIMITS: readonly number[] = [8, 32, 128, MAXIMUM_CHUNK];

/** Bytes at the beginning and in the middle of every tensor that tell models of one shape apart. */
const SAMPLED_BYTES = 256;

/** Room for this many tokens is made first; it doubles when a sequence outgrows it. */
const FIRST_CAPACITY = 512;

export interface RuntimeSettings {
  readonly device: Device;
  readonly spec: ModelSpec;
  /** The weights and how each is stored. */
  readonly plan: readonly PlannedWeight[];
  /** The weights themselves; later by {@link ModelRuntime.attachWeights} when absent. */
  readonly weights?: ReadonlyMap<string, Tensor>;
  readonly cacheDtype: CacheDtype;
  readonly contextLength: number;
  readonly force?: ForcedChoices | undefined;
}

/**
 * A loaded model without text: weights on the GPU and the plans that run it. Plans can be compiled before the weights
 * are there; sequences can not be made.
 */
export class ModelRuntime {
  readonly device: Device;
  readonly executor: Executor;
  readonly spec: ModelSpec;
  readonly cacheDtype: CacheDtype;
  /** Tokens that one sequence may hold; Infinity where nothing bounds it. */
  readonly contextLength: number;
  readonly #weightPlan: readonly PlannedWeight[];
  #weights: ReadonlyMap<string, Tensor>;
  readonly #tables: Map<string, Tensor>;
  readonly #pageTables = new Map<string, Tensor>();
  readonly #plans = new Map<string, Promise<Plan>>();
  readonly #force: ForcedChoices | undefined;

  constructor(settings: RuntimeSettings) {
    this.device = settings.device;
    this.executor = new Executor(settings.device);
    this.spec = settings.spec;
    this.cacheDtype = settings.cacheDtype;
    this.contextLength = settings.contextLength;
    this.#weightPlan = settings.plan;
    this.#weights = settings.weights ?? new Map();
    this.#force = settings.force;
    this.#tables = new Map(
      [...rotaryTables(settings.spec)].map(([name, rotary]) => {
        const scaling = scalingFor(rotary, settings.contextLength);
        const data = ropeInverseFrequencies({
          theta: rotary.theta,
          rotaryDim: rotary.dim,
          ...(scaling && { scaling }),
        });
        return [name, settings.device.upload(name, { data, dtype: 'f32', shape: [data.length] })];
      }),
    );
  }

  /** Hands over the weights, which `dispose` then frees. */
  attachWeights(weights: ReadonlyMap<string, Tensor>): void {
    this.#weights = weights;
  }

  /** Tensors that every plan binds: weights and tables. */
  get constants(): ReadonlyMap<string, Tensor> {
    return new Map([...this.#weights, ...this.#tables]);
  }

  /** Tables of pages for sequences of this capacity, where layers keep a window alone. */
  pageTables(capacity: number, batch: number = 1): ReadonlyMap<string, Tensor> {
    const tables = new Map<string, Tensor>();
    for (const { block } of blocksOf(this.spec)) {
      const ring = block.kind === 'attention' ? pageRing(block, capacity) : undefined;
      if (ring === undefined) continue;
      const name = pageTableName(ring);
      const data = pageTable(ring, batch);
      const key = `${name}/${batch}`;
      const shape = [batch, data.length / batch];
      const table = this.#pageTables.get(key) ?? this.device.upload(name, { data, dtype: 'u32', shape });
      this.#pageTables.set(key, table);
      tables.set(name, table);
    }
    return tables;
  }

  get weightsBytes(): number {
    let bytes = 0;
    for (const tensor of this.constants.values()) bytes += tensor.byteLength;
    return bytes;
  }

  /**
   * What tells this model, and how it is stored, from others: a hash of its spec, the names, dtypes and shapes of its
   * weights, and some bytes of each. 64 hexadecimal digits.
   */
  fingerprint(): Promise<string> {
    this.#fingerprint ??= this.#computeFingerprint();
    return this.#fingerprint;
  }
  #fingerprint: Promise<string> | undefined;

  async #computeFingerprint(): Promise<string> {
    const tensors = [...this.constants].toSorted(([a], [b]) => (a < b ? -1 : 1));
    let end = 0;
    const samples = tensors.flatMap(([, source]) => {
      const middle = Math.floor(source.byteLength / 8) * 4;
      return [0, middle].map((sourceOffset) => {
        const byteLength = Math.min(SAMPLED_BYTES, Math.floor((source.byteLength - sourceOffset) / 4) * 4);
        const targetOffset = end;
        end += byteLength;
        return { source, sourceOffset, targetOffset, byteLength };
      });
    });
    const target = createStore(this.device, 'runtime/fingerprint', end);
    try {
      copyParts(
        this.device,
        samples.map((sample) => ({ ...sample, target })),
      );
      const bytes = await this.device.readBuffer(target.buffer);
      const hash = createHash();
      const shapes = tensors.map(([name, { dtype, shape }]) => [name, dtype, shape]);
      hash.update(new TextEncoder().encode(JSON.stringify([this.spec, this.cacheDtype, shapes])));
      hash.update(new Uint8Array(bytes));
      return hash.digest();
    } finally {
      target.dispose();
    }
  }

  /** Capacity of KV caches for a sequence of `length` tokens: doubled from {@link FIRST_CAPACITY}, never more than allowed. */
  capacityFor(length: number): number {
    if (!hasAttention(this.spec)) return 1;
    let capacity = FIRST_CAPACITY;
    while (capacity < length) capacity *= 2;
    return Math.min(capacity, this.contextLength);
  }

  /** The plan for a chunk of `length` tokens, compiled when it is first needed. */
  prefillPlan(length: number, head: PrefillHead, capacity: number): Promise<Plan> {
    const limit = CHUNK_LIMITS.find((candidate) => candidate >= length) ?? MAXIMUM_CHUNK;
    return this.#plan(`prefill/${limit}/${head}/${capacity}`, capacity, (options) =>
      buildPrefill(options, limit, head),
    );
  }

  /** The plan for one token of each of `batch` sequences, with what their sampling uses, or 'none' to leave it out. */
  decodePlan(capacity: number, batch: number = 1, sampling: SamplingFeatures | 'none' = PLAIN_SAMPLING): Promise<Plan> {
    const key = sampling === 'none' ? sampling : featuresKey(sampling);
    return this.#plan(
      `decode/${capacity}/${batch}/${key}`,
      capacity,
      (options) => buildDecode(options, sampling),
      batch,
    );
  }

  samplePlan(sampling: SamplingFeatures = PLAIN_SAMPLING, batch: number = 1): Promise<Plan> {
    return this.#plan(
      `sample/${batch}/${featuresKey(sampling)}`,
      1,
      (options) => buildSample(options, sampling),
      batch,
    );
  }

  dispose(): void {
    this.executor.dispose();
    for (const tensor of [...this.constants.values(), ...this.#pageTables.values()]) tensor.dispose();
    this.#pageTables.clear();
    // Plans that are still being compiled make their buffers later.
    void Promise.allSettled(this.#plans.values()).then(() => this.executor.dispose());
    this.#plans.clear();
  }

  #plan(
    key: string,
    capacity: number,
    build: (options: BuildOptions) => Parameters<Executor['compile']>[0],
    batch: number = 1,
  ): Promise<Plan> {
    const cached = this.#plans.get(key);
    if (cached !== undefined) return cached;
    const dtypes = new Map(this.#weightPlan.map(({ spec: { name }, dtype }) => [name, dtype]));
    const options: BuildOptions = {
      spec: this.spec,
      weights: this.#weightPlan.map((weight) => weight.spec),
      matrixDtype: (name): Dtype => dtypes.get(name) ?? 'f32',
      batch,
      capacity,
      cacheDtype: this.cacheDtype,
      capabilities: this.device.capabilities,
      ...(this.#force && { force: this.#force }),
    };
    const plan = this.executor.compile(build(options));
    this.#plans.set(key, plan);
    // What failed once may succeed later, on more free memory for example.
    plan.catch(() => this.#plans.delete(key));
    return plan;
  }
}

/** Scalings that depend on the context's length take the one that the model is loaded for. */
function scalingFor({ scaling }: RotarySpec, contextLength: number): RotaryScaling | undefined {
  if (scaling === undefined || !('contextLength' in scaling) || !Number.isFinite(contextLength)) return scaling;
  return { ...scaling, contextLength };
}
